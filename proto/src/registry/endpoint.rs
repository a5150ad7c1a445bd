//! Which address a registry's host name stands for.

use std::net::IpAddr;

use reqwest::Url;

use crate::image::Error;

/// Hosts whose API is served under another name.
const API_HOSTS: [(&str, &str); 1] = [("docker.io", "registry-1.docker.io")];

/// The host that serves the API of the registry `host`.
pub(super) fn api_host(host: &str) -> &str {
    let named = API_HOSTS.iter().find(|(name, _)| *name == host);
    named.map_or(host, |(_, api)| api)
}

/// The base address of a registry's API, with a trailing slash.
pub(super) fn base(host: &str, scheme: &str) -> Result<Url, Error> {
    let api_host = api_host(host);
    let invalid = |_| Error::InvalidName {
        name: host.to_owned(),
        reason: "the host is not valid in an address",
    };
    Url::parse(&format!("{scheme}://{api_host}/v2/")).map_err(invalid)
}

/// Whether `host` is this machine, where plain HTTP harms nobody.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_io_is_served_elsewhere() {
        assert_eq!(
            base("docker.io", "https").unwrap().as_str(),
            "https://registry-1.docker.io/v2/"
        );
        assert_eq!(
            base("[::1]:5000", "http").unwrap().as_str(),
            "http://[::1]:5000/v2/"
        );
    }

    #[test]
    fn loopback_hosts_are_known() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]",
            "[::1]:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "10.0.0.1",
            "[fe80::1]:1",
            "registry.example:5000",
            "127.0.0.1.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
