//! Synthetic viewers and replay of recorded traffic
