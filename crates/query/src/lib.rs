//! PostgreSQL and Redis wire over views, lake and bad events
