//! The kernel's list of mounts.

use std::path::PathBuf;

/// The list of this process.
pub const PATH: &str = "/proc/self/mountinfo";

/// A mount in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Device number of its file system, major and minor.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub target: PathBuf,
    /// The type of its file system.
    pub fs_type: String,
    /// What is mounted, in the file system's own words.
    pub source: PathBuf,
}

/// The mounts of a list, the oldest first. The third field of a line is the number, the fifth the place; after a dash
/// come type and source.
pub fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount> {
    mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(2);
        let (major, minor) = fields.next()?.split_once(':')?;
        let target = unescape(fields.nth(1)?).into();
        let mut fields = file_system.split(' ');
        Some(Mount {
            device: (major.parse().ok()?, minor.parse().ok()?),
            target,
            fs_type: fields.next()?.to_owned(),
            source: unescape(fields.next()?).into(),
        })
    })
}

/// The kernel writes blanks and backslashes in paths as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| {
            text.replace(escaped, plain)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_told_apart() {
        let list = "30 1 254:0 / / rw - ext4 /dev/vda rw\n\
                    31 30 0:40 / /run/a\\040b/1 ro,relatime shared:5 - erofs /a\\040c/image.boot ro\n\
                    nonsense\n";
        let found: Vec<_> = mounts(list).collect();
        let mount = |device, target: &str, fs_type: &str, source: &str| Mount {
            device,
            target: target.into(),
            fs_type: fs_type.to_owned(),
            source: source.into(),
        };
        let expected = [
            mount((254, 0), "/", "ext4", "/dev/vda"),
            mount((0, 40), "/run/a b/1", "erofs", "/a c/image.boot"),
        ];
        assert_eq!(found, expected);
    }
}
