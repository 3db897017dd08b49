//! odd_keys
