//! Pods as a kubelet runs them: containerd's CRI, spoken directly.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    AuthConfig, ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ImageSpec,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, PullImageRequest, RemoveImageRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// How long one call may take; pulls of large images are the longest.
const CALL_DEADLINE: Duration = Duration::from_secs(180);
/// Seconds a process may run or take to end.
const GRACE_SECONDS: i64 = 5;

/// A connection to containerd's CRI.
pub struct Cri {
    runtime: Runtime,
    pods: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// A running pod.
pub struct Pod {
    id: String,
    config: PodSandboxConfig,
}

impl Cri {
    /// Connects to the socket of a containerd that has CRI.
    pub fn connect(socket: &Path) -> Result<Self> {
        Self::connect_to(socket, socket)
    }

    /// The same with another socket for images, as kubelets can be told.
    pub fn connect_to(socket: &Path, images: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let connect = |socket: &Path| {
            let channel = runtime.block_on(containerd_client::connect(socket));
            channel.context("connect to CRI")
        };
        Ok(Cri {
            pods: RuntimeServiceClient::new(connect(socket)?),
            images: ImageServiceClient::new(connect(images)?),
            runtime,
        })
    }

    /// Pulls an image, as a kubelet would for a pod.
    pub fn pull(&mut self, reference: &str) -> Result<()> {
        self.pull_as(reference, None)
    }

    /// The same for a pod with a pull secret: user and password.
    pub fn pull_as(&mut self, reference: &str, login: Option<(&str, &str)>) -> Result<()> {
        let auth = login.map(|(user, password)| AuthConfig {
            username: user.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        });
        let request = PullImageRequest {
            image: Some(image(reference)),
            auth,
            ..Default::default()
        };
        self.runtime
            .block_on(call("PullImage", self.images.pull_image(request)))
            .map(drop)
    }

    /// Removes an image; its snapshots are collected some time later.
    pub fn remove_image(&mut self, reference: &str) -> Result<()> {
        let request = RemoveImageRequest {
            image: Some(image(reference)),
        };
        self.runtime
            .block_on(call("RemoveImage", self.images.remove_image(request)))
            .map(drop)
    }

    /// Starts a pod on the host's network, with its containers' logs in `log_dir`.
    pub fn run_pod(&mut self, name: &str, log_dir: &Path) -> Result<Pod> {
        let namespaces = NamespaceOption {
            network: NamespaceMode::Node.into(),
            pid: NamespaceMode::Container.into(),
            ..Default::default()
        };
        let security = LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces),
            ..Default::default()
        };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            log_directory: log_dir.display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let answer = self
            .runtime
            .block_on(call("RunPodSandbox", self.pods.run_pod_sandbox(request)))?;
        Ok(Pod {
            id: answer.pod_sandbox_id,
            config,
        })
    }

    /// Creates and starts a container; gives its id.
    pub fn run_container(&mut self, pod: &Pod, name: &str, reference: &str, argv: &[&str]) -> Result<String> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: name.to_owned(),
                attempt: 0,
            }),
            image: Some(image(reference)),
            command: argv.iter().map(|word| (*word).to_owned()).collect(),
            log_path: log_name(name),
            ..Default::default()
        };
        let create = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let id = self
            .runtime
            .block_on(call("CreateContainer", self.pods.create_container(create)))?
            .container_id;
        let start = StartContainerRequest {
            container_id: id.clone(),
        };
        self.runtime
            .block_on(call("StartContainer", self.pods.start_container(start)))?;
        Ok(id)
    }

    /// Runs a command in a container; gives its exit status and standard output.
    pub fn exec(&mut self, container: &str, argv: &[&str]) -> Result<(i32, String)> {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: argv.iter().map(|word| (*word).to_owned()).collect(),
            timeout: CALL_DEADLINE.as_secs().try_into()?,
        };
        let answer = self
            .runtime
            .block_on(call("ExecSync", self.pods.exec_sync(request)))?;
        Ok((
            answer.exit_code,
            String::from_utf8_lossy(&answer.stdout).into_owned(),
        ))
    }

    /// Stops a container.
    pub fn stop_container(&mut self, container: &str) -> Result<()> {
        let request = StopContainerRequest {
            container_id: container.to_owned(),
            timeout: GRACE_SECONDS,
        };
        self.runtime
            .block_on(call("StopContainer", self.pods.stop_container(request)))
            .map(drop)
    }

    /// Stops and removes a pod with its containers.
    pub fn remove_pod(&mut self, pod: &Pod) -> Result<()> {
        let stop = StopPodSandboxRequest {
            pod_sandbox_id: pod.id.clone(),
        };
        self.runtime
            .block_on(call("StopPodSandbox", self.pods.stop_pod_sandbox(stop)))?;
        let remove = RemovePodSandboxRequest {
            pod_sandbox_id: pod.id.clone(),
        };
        self.runtime
            .block_on(call("RemovePodSandbox", self.pods.remove_pod_sandbox(remove)))
            .map(drop)
    }
}

impl Pod {
    /// Where the log of a container lies.
    pub fn log(&self, container: &str) -> PathBuf {
        Path::new(&self.config.log_directory).join(log_name(container))
    }
}

fn log_name(container: &str) -> String {
    format!("{container}.log")
}

fn image(reference: &str) -> ImageSpec {
    ImageSpec {
        image: reference.to_owned(),
        ..Default::default()
    }
}

async fn call<T>(
    name: &str,
    answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    let answer = tokio::time::timeout(CALL_DEADLINE, answer).await;
    let answer = answer.with_context(|| format!("{name} did not end within {CALL_DEADLINE:?}"))?;
    Ok(answer.with_context(|| format!("{name} failed"))?.into_inner())
}
