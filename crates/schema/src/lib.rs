//! Event schemas: subjects and compiled validators
