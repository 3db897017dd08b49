//! versions_and_conditions
