//! The kernel's list of mounts.

use std::path::PathBuf;

/// The list of this process.
pub const PATH: &str = "/proc/self/mountinfo";

/// Where file systems of some types are mounted: the fifth field of a line is the place, the first after a dash the
/// type.
pub fn targets(mountinfo: &str, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().filter_map(move |line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let fs_type = file_system.split(' ').next()?;
        let target = mount.split(' ').nth(4)?;
        is_wanted(fs_type).then(|| unescape(target).into())
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
    use std::path::Path;

    use super::*;

    #[test]
    fn only_erofs_mounts_are_listed() {
        let list = "30 1 254:0 / / rw - ext4 /dev/vda rw\n\
                    31 30 0:40 / /run/a\\040b/1 ro,relatime shared:5 - erofs /a/image.boot ro\n\
                    32 30 0:41 / /run/mnt/2 rw - fuse erofs ro\n";
        let found: Vec<_> = targets(list, |fs_type| fs_type == "erofs").collect();
        assert_eq!(found, [Path::new("/run/a b/1")]);
    }
}
