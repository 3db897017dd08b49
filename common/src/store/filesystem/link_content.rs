//! The content of a link, read on the way of a walk.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use md5::{Digest as _, Md5};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::read;

use crate::link::LONGEST_LINK;

/// Looks at a link in a folder, with the MD5 of its content, as an object store says it in an `ETag`. `None` where it is no small file
/// or cannot be read: who needs its content finds out why.
pub(super) fn look_inside(folder: &OwnedFd, name: &CStr) -> Option<(Stat, String)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty()).ok()?;
    let stat = fstat(&file).ok()?;
    let size = u64::try_from(stat.st_size).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || size > LONGEST_LINK {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    let length = read(&file, &mut bytes).ok()?;
    // One that is written this very moment may have any content.
    (length == bytes.len()).then(|| (stat, hex::encode(Md5::digest(&bytes))))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::open;

    use super::*;
    use crate::digest::{Algorithm, Digest};
    use crate::link::link_is_proved;

    #[test]
    fn a_small_file_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"x");
        fs::write(folder.path().join("link"), digest.to_string()).unwrap();
        fs::write(folder.path().join("other"), "sha256:").unwrap();
        fs::write(folder.path().join("large"), vec![b'0'; 257]).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        symlink("link", folder.path().join("symbolic")).unwrap();
        let fd = open(folder.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let proves = |name: &CStr| {
            let (stat, md5) = look_inside(&fd, name)?;
            Some(link_is_proved(
                &digest,
                u64::try_from(stat.st_size).unwrap(),
                Some(&md5),
            ))
        };
        assert_eq!(proves(c"link"), Some(true));
        assert_eq!(proves(c"other"), Some(false));
        for name in [c"large", c"folder", c"symbolic", c"gone"] {
            assert_eq!(proves(name), None, "{name:?}");
        }
    }
}
