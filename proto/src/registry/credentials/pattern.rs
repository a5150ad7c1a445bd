//! Which images an entry of the kubelet's credential providers is about. Pure.

/// Whether `pattern`, such as `*.dkr.ecr.*.amazonaws.com/team`, is about the image `host/repository`: as many parts of the
/// name, a star for anything within a part, the same port, and a path that begins alike.
pub(super) fn matches(pattern: &str, host: &str, repository: &str) -> bool {
    let pattern = pattern
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let (wanted, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let split = |host| match str::rsplit_once(host, ':') {
        Some((name, port)) => (name, port),
        None => (host, ""),
    };
    let ((wanted, wanted_port), (name, port)) = (split(wanted), split(host));
    let (wanted, name): (Vec<_>, Vec<_>) = (wanted.split('.').collect(), name.split('.').collect());
    wanted.len() == name.len()
        && wanted_port == port
        && wanted
            .iter()
            .zip(&name)
            .all(|(wanted, name)| is_like(wanted, name))
        && is_below(repository, path.trim_end_matches('/'))
}

/// Whether a repository is what `path` names or lies below it.
fn is_below(repository: &str, path: &str) -> bool {
    let rest = repository.strip_prefix(path);
    path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a part of a name is like a pattern with stars.
fn is_like(pattern: &str, part: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == part;
    };
    let Some(part) = part.strip_prefix(start) else {
        return false;
    };
    let ends = part.char_indices().map(|(index, _)| index).chain([part.len()]);
    ends.into_iter().any(|index| is_like(rest, &part[index..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_about_hosts_ports_and_paths() {
        for (pattern, image, is_match) in [
            ("registry.io", "registry.io/a/b", true),
            ("https://registry.io", "registry.io/a/b", true),
            ("registry.io", "sub.registry.io/a", false),
            ("*.registry.io", "sub.registry.io/a", true),
            ("*.registry.io", "registry.io/a", false),
            ("*.*.registry.io", "sub.registry.io/a", false),
            ("sub*.r*y.io", "sub2.registry.io/a", true),
            (
                "*.dkr.ecr.*.amazonaws.com",
                "123.dkr.ecr.eu-west-1.amazonaws.com/x",
                true,
            ),
            ("registry.io:5000", "registry.io:5000/a", true),
            ("registry.io", "registry.io:5000/a", false),
            ("registry.io/a", "registry.io/a/b", true),
            ("registry.io/a", "registry.io/ab", false),
            ("registry.io/a/b", "registry.io/a", false),
            ("*", "localhost/a", true),
            ("", "registry.io/a", false),
        ] {
            let (host, repository) = image.split_once('/').unwrap();
            assert_eq!(matches(pattern, host, repository), is_match, "{pattern} {image}");
        }
    }
}
