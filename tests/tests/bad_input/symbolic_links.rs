//! symbolic_links
