//! full_disks
