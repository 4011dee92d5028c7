//! Faulty disk, virtual clock, real-server harness, conformance suites
