//! Names of extended attributes: a numbered prefix and a suffix.

/// Prefixes by number. The two ACL names are whole; the others take a suffix.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// Splits a full name into the prefix's number and the suffix; `None` for names the format cannot say.
pub(crate) fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(number, prefix)| {
        let suffix = name.strip_prefix(prefix)?;
        (suffix.is_empty() != prefix.ends_with(b".")).then_some((number, suffix))
    })
}

/// The prefix with a number.
pub(crate) fn prefix(number: u8) -> Option<&'static [u8]> {
    PREFIXES
        .iter()
        .find_map(|&(known, prefix)| (known == number).then_some(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_and_join() {
        for (name, number, suffix) in [
            ("user.note", 1, "note"),
            ("system.posix_acl_access", 2, ""),
            ("system.posix_acl_default", 3, ""),
            ("trusted.overlay.opaque", 4, "overlay.opaque"),
            ("security.capability", 6, "capability"),
        ] {
            assert_eq!(split(name.as_bytes()), Some((number, suffix.as_bytes())));
            assert_eq!(
                [prefix(number).unwrap(), suffix.as_bytes()].concat(),
                name.as_bytes()
            );
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "user",
            "user.",
            "system.nfs4_acl",
            "system.posix_acl_accessx",
            "os2.x",
        ] {
            assert_eq!(split(name.as_bytes()), None, "{name}");
        }
    }
}
