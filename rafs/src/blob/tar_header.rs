//! The tar headers behind the sections of a blob, which let plain tar tools take a blob apart.

/// Bytes of a tar header.
pub(crate) const LEN: usize = 512;

/// Makes the GNU header of a regular file. Fields that say nothing (mode, owner) stay blank.
///
/// `size` has room for 11 octal digits, 8 GiB; beyond, it is binary, as GNU tar writes it.
pub(crate) fn make(name: &str, size: u64) -> [u8; LEN] {
    let mut header = [0; LEN];
    header[..name.len()].copy_from_slice(name.as_bytes());
    if size < 1 << 33 {
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    } else {
        header[124] = 0x80;
        header[128..136].copy_from_slice(&size.to_be_bytes());
    }
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar  \0");
    // The checksum counts its own field as blanks.
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
    header
}

/// The size in a header, if it is that of a regular file `name` and its checksum holds.
pub(crate) fn read(header: &[u8; LEN], name: &str) -> Option<u64> {
    let field = header[..100].split(|&byte| byte == 0).next()?;
    let sum: u64 = (header.iter().enumerate())
        .map(|(at, &byte)| if (148..156).contains(&at) { b' ' } else { byte })
        .map(u64::from)
        .sum();
    let is_valid = field == name.as_bytes() && octal(&header[148..156]) == Some(sum);
    is_valid.then(|| size(&header[124..136])).flatten()
}

/// Octal digits, or from 8 GiB on a mark and a binary number.
fn size(field: &[u8]) -> Option<u64> {
    match field {
        [0x80, 0, 0, 0, low @ ..] => low.try_into().ok().map(u64::from_be_bytes),
        field => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = field
        .split(|&byte| byte == 0 || byte == b' ')
        .find(|part| !part.is_empty())?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_what_the_ecosystem_writes() {
        let header = make("rafs.blob.toc", 640);
        assert_eq!(&header[..14], b"rafs.blob.toc\0");
        assert_eq!(&header[124..156], b"00000001200\x0000000000000\x000006257\0");
        assert_eq!(&header[257..265], b"ustar  \0");
    }

    #[test]
    fn what_is_made_is_read() {
        let mut header = make("rafs.blob.toc", 640);
        assert_eq!(read(&header, "rafs.blob.toc"), Some(640));
        assert_eq!(read(&header, "image.blob"), None);
        header[130] ^= 1;
        assert_eq!(read(&header, "rafs.blob.toc"), None);
    }

    #[test]
    fn sizes_from_8_gib_on_are_binary() {
        let header = make("image.blob", 9 << 30);
        assert_eq!(&header[124..136], &[0x80, 0, 0, 0, 0, 0, 0, 2, 0x40, 0, 0, 0]);
        assert_eq!(read(&header, "image.blob"), Some(9 << 30));
    }
}
