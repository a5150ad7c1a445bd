//! A mirror that has a private authority and wants to see a certificate: nginx.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{noise, read};
use crate::image::{Error, Options, digest};
use crate::registry::{Network, Repository};

const NGINX: &str = "/usr/sbin/nginx";
const OPENSSL: &str = "/usr/bin/openssl";
/// How long nginx may take to listen, on a busy machine.
const START_WAIT: Duration = Duration::from_secs(60);

/// A running nginx. Dropped, it is gone.
struct Nginx {
    process: Child,
    port: u16,
}

impl Nginx {
    /// Serves the folder `www` of `dir`, with the certificates that lie in `dir`.
    fn start(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let text = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/log; events {{}}\n\
             http {{ access_log off; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3;\n\
             uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
             server {{ listen 127.0.0.1:{port} ssl; root {0}/www; ssl_certificate {0}/server.crt;\n\
             ssl_certificate_key {0}/server.key; ssl_client_certificate {0}/ca.crt; ssl_verify_client on; }} }}\n",
            dir.display()
        );
        fs::write(dir.join("nginx.conf"), text).unwrap();
        let mut process = Command::new(NGINX)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .arg("-e")
            .arg(dir.join("log"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "nginx ended");
            assert!(begun.elapsed() < START_WAIT, "nginx does not listen");
            std::thread::yield_now();
        }
        Self { process, port }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let mut command = Command::new(OPENSSL);
    command.current_dir(dir).args(arguments.split(' '));
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority `ca`, and what it signed: `server` for 127.0.0.1, and `client`.
fn make_certificates(dir: &Path) {
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(
        dir,
        &format!("req -x509 {new} -keyout ca.key -out ca.crt -subj /CN=ca"),
    );
    for name in ["server", "client"] {
        let files = format!("-keyout {name}.key -out {name}.crt -subj /CN={name}");
        let signed = "-CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:FALSE";
        openssl(
            dir,
            &format!("req -x509 {new} {files} {signed} -addext subjectAltName=IP:127.0.0.1"),
        );
    }
}

#[tokio::test]
async fn a_mirror_with_certificates_is_used_when_they_are_configured() {
    if !Path::new(NGINX).exists() || !Path::new(OPENSSL).exists() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let blob = noise(1000);
    let digest = digest::sha256_of(&blob);
    let blobs = dir.path().join("www/v2/team/app/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(digest.to_string()), &blob).unwrap();
    let nginx = Nginx::start(dir.path());

    let ca = format!("ca = \"{}/ca.crt\"\n", dir.path().display());
    let client = format!(
        "client = [[\"{0}/client.crt\", \"{0}/client.key\"]]\n",
        dir.path().display()
    );
    let trusting = "skip_verify = true\n".to_owned();
    let cases = [
        (format!("{ca}{client}"), true),
        (format!("{trusting}{client}"), true),
        (client.clone(), false),
        (ca.clone(), false),
    ];
    for (keys, works) in cases {
        // Nobody listens at the registry itself, so that what comes, comes from the mirror.
        let certs = tempfile::tempdir().unwrap();
        fs::create_dir(certs.path().join("127.0.0.1:1")).unwrap();
        let text = format!("[host.\"https://127.0.0.1:{}\"]\n{keys}", nginx.port);
        fs::write(certs.path().join("127.0.0.1:1/hosts.toml"), text).unwrap();
        let options = Options {
            plain_http: true,
            network: Arc::new(Network::new(Some(certs.path().to_owned()))),
            ..Options::default()
        };
        let repository = Repository::new("127.0.0.1:1", "team/app", &options).unwrap();
        let got = read(repository.range(&digest, 10..20).await).await;
        match got {
            Ok(bytes) => assert!(works && bytes == blob[10..20], "{keys}"),
            Err(error) => assert!(
                !works && matches!(error, Error::Network { .. }),
                "{keys}: {error}"
            ),
        }
    }

    let missing = "ca = \"nowhere.crt\"";
    let certs = tempfile::tempdir().unwrap();
    fs::create_dir(certs.path().join("_default")).unwrap();
    fs::write(certs.path().join("_default/hosts.toml"), missing).unwrap();
    let options = Options {
        network: Arc::new(Network::new(Some(certs.path().to_owned()))),
        ..Options::default()
    };
    let refused = Repository::new("a.example", "team/app", &options).map(drop);
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
}
