//! Kafka protocol server
