//! The kubelet's credential providers: programs that are told an image and answer with logins.
//!
//! Source: Kubernetes, `kubelet.config.k8s.io/v1` CredentialProviderConfig and `credentialprovider.kubelet.k8s.io/v1`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CredentialSource, Credentials, pattern};

/// How long a program may take: the kubelet gives it a minute, a read cannot wait that long.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Longest answer of a program: some hundred logins.
const ANSWER_LEN_MAX: u64 = 1 << 20;

/// The kubelet's configuration of credential providers. Read anew for each search.
pub(super) struct Kubelet {
    config: PathBuf,
    programs: PathBuf,
}

#[derive(Deserialize)]
struct Config {
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    name: String,
    api_version: String,
    match_images: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    kind: &'a str,
    api_version: &'a str,
    image: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    auth: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Kubelet {
    pub(super) fn new(config: PathBuf, programs: PathBuf) -> Self {
        Self { config, programs }
    }

    fn providers(&self) -> Result<Vec<Provider>, String> {
        let text = std::fs::read_to_string(&self.config).map_err(|error| error.to_string())?;
        // JSON is YAML.
        let config: Config = serde_yaml_ng::from_str(&text).map_err(|error| error.to_string())?;
        Ok(config.providers)
    }

    fn ask(&self, provider: &Provider, image: &str) -> Result<Answer, String> {
        if provider.name.contains('/') || matches!(provider.name.as_str(), "" | "." | "..") {
            return Err("its name is no file name".to_owned());
        }
        let request = Request {
            kind: "CredentialProviderRequest",
            api_version: &provider.api_version,
            image,
        };
        let request = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
        let mut command = Command::new(self.programs.join(&provider.name));
        command.args(&provider.args);
        command.envs(
            provider
                .env
                .iter()
                .map(|variable| (&variable.name, &variable.value)),
        );
        let answer = run(&mut command, request)?;
        // Its words are not repeated: they may hold a secret.
        serde_json::from_slice(&answer).map_err(|_| "its answer is no CredentialProviderResponse".to_owned())
    }
}

/// Runs a program with an input, and gives its output.
fn run(command: &mut Command, input: Vec<u8>) -> Result<Vec<u8>, String> {
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = Running(piped.spawn().map_err(|error| error.to_string())?);
    let (stdin, stdout) = (child.0.stdin.take(), child.0.stdout.take());
    let (sender, receiver) = mpsc::sync_channel(1);
    // Ends with the program, at the latest when that is killed below.
    std::thread::spawn(move || {
        let mut output = Vec::new();
        // A program that does not read its input may know the answer all the same.
        let _ = stdin.map(|mut stdin| stdin.write_all(&input));
        let read = stdout.map(|stdout| stdout.take(ANSWER_LEN_MAX).read_to_end(&mut output));
        // Nobody waits any more after the time is over.
        let _ = sender.send(read.transpose().map(|_| output));
    });
    let output = receiver
        .recv_timeout(TIMEOUT)
        .map_err(|_| format!("it does not answer within {} s", TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    let status = child.0.wait().map_err(|error| error.to_string())?;
    match status.success() {
        true => Ok(output),
        false => Err(status.to_string()),
    }
}

/// A program that does not outlive its use.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The login for an image with the longest, which is the most specific, key.
fn choose(answer: Answer, host: &str, repository: &str) -> Option<Credentials> {
    let fitting = answer.auth.into_iter();
    let fitting = fitting.filter(|(key, _)| pattern::matches(key, host, repository));
    let (_, login) = fitting.max_by_key(|(key, _)| key.len())?;
    (!login.username.is_empty() || !login.password.is_empty()).then_some(Credentials::Password {
        user: login.username,
        password: login.password,
    })
}

impl CredentialSource for Kubelet {
    fn find(&self, host: &str, repository: &str) -> Option<Credentials> {
        let warn = |path: &Path, error: &str| {
            tracing::warn!(path = %path.display(), error, "a credential provider cannot be asked");
        };
        let providers = self.providers();
        let providers = providers.map_err(|error| warn(&self.config, &error)).ok()?;
        let image = format!("{host}/{repository}");
        let is_about = |provider: &&Provider| {
            let mut patterns = provider.match_images.iter();
            patterns.any(|pattern| pattern::matches(pattern, host, repository))
        };
        providers.iter().filter(is_about).find_map(|provider| {
            let answer = self.ask(provider, &image);
            let program = self.programs.join(&provider.name);
            choose(
                answer.map_err(|error| warn(&program, &error)).ok()?,
                host,
                repository,
            )
        })
    }
}
