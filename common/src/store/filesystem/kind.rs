//! Whether a folder lies on a disk of this machine.

use std::path::Path;

use rustix::fs::statfs;

/// Filesystems of disks and memory: ext2 to ext4, xfs, btrfs, zfs, f2fs, bcachefs, tmpfs, overlayfs (`statfs(2)`, `linux/magic.h`,
/// OpenZFS). Any other may be a network's, or a program that asks one.
const LOCAL: [i64; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x2fc1_2fc1,
    0xf2f5_2010,
    0xca45_1a4e,
    0x0102_1994,
    0x794c_7630,
];

/// Whether reads at a path cost no request to another machine. Of what is not known to be so it is not said.
pub(super) fn is_local(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| LOCAL.contains(&found.f_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_be_local_is_not() {
        assert!(is_local(&std::env::temp_dir()));
        assert!(!is_local(Path::new("/proc")));
        assert!(!is_local(Path::new("/does/not/exist")));
    }
}
