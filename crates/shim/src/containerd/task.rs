//! The task service: a method each.

use rustix::io::Errno;
use wharf_runtime::spec::{Process as ProcessSpec, Resources};

use super::container::{Container, Process, Waiter, status_of, status_of_cgroup};
use super::serve::Server;
use super::stdio::Streams;
use crate::task_api::envelope::{Code, Request, Status};
use crate::task_api::messages::*;
use crate::task_api::proto::Message;

/// An encoded message, or an error.
pub(super) type Outcome = Result<Vec<u8>, Status>;

const SIGKILL: u32 = 9;

impl Server {
    /// Answers a call, at once but for waits.
    pub(super) fn on_request(&mut self, waiter: Waiter, data: &[u8]) {
        let outcome = match Request::decode(data) {
            Err(error) => Err(Status::from(error)),
            Ok(request) if request.service != TASK_V2 && request.service != TASK_V3 => {
                Err(Status::new(Code::Unimplemented, format!("service {}", request.service)))
            }
            Ok(request) if request.method == "Wait" => match self.wait_for(waiter, &request.payload) {
                Ok(None) => return,
                Ok(Some(response)) => Ok(response.encode()),
                Err(status) => Err(status),
            },
            Ok(request) => self.call(&request.method, &request.payload),
        };
        self.answer(waiter, outcome);
    }

    fn call(&mut self, method: &str, payload: &[u8]) -> Outcome {
        match method {
            "State" => self.state(&ProcessRequest::decode(payload)?),
            "Create" => self.create(&CreateTaskRequest::decode(payload)?),
            "Start" => self.start(&ProcessRequest::decode(payload)?),
            "Delete" => self.delete(&ProcessRequest::decode(payload)?),
            "Pids" => self.pids(&ProcessRequest::decode(payload)?),
            "Pause" => self.pause(&ProcessRequest::decode(payload)?),
            "Resume" => self.resume(&ProcessRequest::decode(payload)?),
            "Kill" => self.kill(&KillRequest::decode(payload)?),
            "Exec" => self.exec(ExecProcessRequest::decode(payload)?),
            "ResizePty" => self.resize(&ResizePtyRequest::decode(payload)?),
            "CloseIO" => self.close_io(&CloseIoRequest::decode(payload)?),
            "Update" => self.update(&UpdateTaskRequest::decode(payload)?),
            "Stats" => self.stats(&ProcessRequest::decode(payload)?),
            "Connect" => self.connect(&ProcessRequest::decode(payload)?),
            "Shutdown" => {
                // The shim of a pod goes with its last container.
                if self.containers.is_empty() {
                    self.end();
                }
                Ok(Vec::new())
            }
            "Checkpoint" => Err(Status::new(
                Code::Unimplemented,
                "checkpoints are not taken by this shim: use wharf-runtime checkpoint",
            )),
            _ => Err(Status::new(Code::Unimplemented, format!("method {method}"))),
        }
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Status> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| Status::new(Code::NotFound, format!("container not created: {id}")))
    }

    fn create(&mut self, request: &CreateTaskRequest) -> Outcome {
        if self.containers.contains_key(&request.id) {
            return Err(Status::new(
                Code::AlreadyExists,
                format!("container {} exists", request.id),
            ));
        }
        if !request.checkpoint.is_empty() {
            return Err(Status::new(
                Code::Unimplemented,
                "containers are not restored by this shim",
            ));
        }
        let options = options_of(request.options.as_ref())?;
        let streams = Streams {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        streams.check()?;
        let container = Container::create(request, &options)?;
        let pid = container.init.pid.cast_unsigned();
        // Whoever removes what a killed shim left behind starts with it.
        let _ = std::fs::write(container.bundle.join("init.pid"), pid.to_string());
        self.containers.insert(request.id.clone(), container);
        let event = TaskCreate {
            container_id: request.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(TaskIo {
                stdin: streams.stdin,
                stdout: streams.stdout,
                stderr: streams.stderr,
                terminal: streams.terminal,
            }),
            checkpoint: String::new(),
            pid,
        };
        self.publisher.publish("/tasks/create", "TaskCreate", &event);
        Ok(PidResponse { pid }.encode())
    }

    fn start(&mut self, request: &ProcessRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let (container_id, exec_id) = (request.id.clone(), request.exec_id.clone());
        let pid;
        if exec_id.is_empty() {
            container.start()?;
            pid = container.init.pid.cast_unsigned();
            let event = TaskStart { container_id, pid };
            self.publisher.publish("/tasks/start", "TaskStart", &event);
        } else {
            container.start_exec(&exec_id)?;
            pid = container.process(&exec_id)?.pid.cast_unsigned();
            let event = TaskExecStarted {
                container_id,
                exec_id,
                pid,
            };
            self.publisher.publish("/tasks/exec-started", "TaskExecStarted", &event);
        }
        Ok(PidResponse { pid }.encode())
    }

    fn delete(&mut self, request: &ProcessRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let pid = process.pid.cast_unsigned();
        let exit = match process.exit {
            Some(exit) => exit,
            // An exec that never started has nothing to end.
            None if pid == 0 => super::container::Exit { status: 0, at_ns: 0 },
            None => return Err(Status::new(Code::FailedPrecondition, "process is running")),
        };
        let exited_at = (exit.at_ns != 0).then(|| Timestamp::from_ns(exit.at_ns));
        if request.exec_id.is_empty() {
            let removed = self.containers.remove(&request.id).map_or(Ok(()), |mut container| {
                container.processes_mut().for_each(|process| self.part(process));
                container.remove()
            });
            let event = TaskDelete {
                container_id: request.id.clone(),
                pid,
                exit_status: exit.status,
                exited_at: exited_at.clone(),
                id: String::new(),
            };
            self.publisher.publish("/tasks/delete", "TaskDelete", &event);
            removed?;
        } else {
            let deleted = container.execs.remove(&request.exec_id);
            deleted.into_iter().for_each(|mut process| self.part(&mut process));
        }
        let response = DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at,
        };
        Ok(response.encode())
    }

    fn exec(&mut self, request: ExecProcessRequest) -> Outcome {
        let container = self.container(&request.id)?;
        if request.exec_id.is_empty() || container.execs.contains_key(&request.exec_id) {
            return Err(Status::new(Code::AlreadyExists, format!("id {:?}", request.exec_id)));
        }
        if container.init.exit.is_some() {
            return Err(Status::new(Code::FailedPrecondition, "container has ended"));
        }
        let spec: ProcessSpec = from_json(request.spec.as_ref(), "spec")?;
        let process = Process {
            exec_id: request.exec_id.clone(),
            streams: Streams {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
            spec: Some(Box::new(spec)),
            ..Process::default()
        };
        process.streams.check()?;
        container.execs.insert(request.exec_id.clone(), process);
        let event = TaskExecAdded {
            container_id: request.id,
            exec_id: request.exec_id,
        };
        self.publisher.publish("/tasks/exec-added", "TaskExecAdded", &event);
        Ok(Vec::new())
    }

    fn state(&mut self, request: &ProcessRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let status = match process {
            Process { exit: Some(_), .. } => ProcessStatus::Stopped,
            Process { is_started: false, .. } => ProcessStatus::Created,
            _ if container.is_paused => ProcessStatus::Paused,
            _ => ProcessStatus::Running,
        };
        let state = StateResponse {
            id: container.id.clone(),
            bundle: container.bundle.to_string_lossy().into_owned(),
            pid: process.pid.cast_unsigned(),
            status: status as u32,
            stdin: process.streams.stdin.clone(),
            stdout: process.streams.stdout.clone(),
            stderr: process.streams.stderr.clone(),
            terminal: process.streams.terminal,
            exit_status: process.exit.map_or(0, |exit| exit.status),
            exited_at: process.exit.map(|exit| Timestamp::from_ns(exit.at_ns)),
            exec_id: process.exec_id.clone(),
        };
        Ok(state.encode())
    }

    /// None while the process runs: the answer comes with its end.
    fn wait_for(&mut self, waiter: Waiter, payload: &[u8]) -> Result<Option<WaitResponse>, Status> {
        let request = ProcessRequest::decode(payload)?;
        let process = self.container(&request.id)?.process_mut(&request.exec_id)?;
        let response = process.exit.map(|exit| WaitResponse {
            exit_status: exit.status,
            exited_at: Some(Timestamp::from_ns(exit.at_ns)),
        });
        if response.is_none() {
            process.waiters.push(waiter);
        }
        Ok(response)
    }

    fn pids(&mut self, request: &ProcessRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let pids = container.cgroup()?.pids();
        let pids = pids.map_err(|error| status_of_cgroup("list the processes", &error))?;
        let info = |pid: u32| {
            let exec = container.execs.values().find(|exec| exec.pid.cast_unsigned() == pid)?;
            let exec_id = exec.exec_id.clone();
            Some(Any {
                type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
                value: ProcessDetails { exec_id }.encode(),
            })
        };
        let processes = pids.into_iter().map(|pid| ProcessInfo { pid, info: info(pid) });
        let response = PidsResponse {
            processes: processes.collect(),
        };
        Ok(response.encode())
    }

    fn pause(&mut self, request: &ProcessRequest) -> Outcome {
        let container = self.container(&request.id)?;
        container.require_running()?;
        let frozen = container.cgroup()?.freeze();
        frozen.map_err(|error| status_of_cgroup("pause the container", &error))?;
        container.is_paused = true;
        self.tell("/tasks/paused", "TaskPaused", &request.id);
        Ok(Vec::new())
    }

    fn resume(&mut self, request: &ProcessRequest) -> Outcome {
        let container = self.container(&request.id)?;
        if !container.is_paused {
            return Err(Status::new(Code::FailedPrecondition, "container is not paused"));
        }
        let thawed = container.cgroup()?.thaw();
        thawed.map_err(|error| status_of_cgroup("resume the container", &error))?;
        container.is_paused = false;
        self.tell("/tasks/resumed", "TaskResumed", &request.id);
        Ok(Vec::new())
    }

    fn tell(&mut self, topic: &str, name: &str, id: &str) {
        let event = TaskOnly {
            container_id: id.to_owned(),
        };
        self.publisher.publish(topic, name, &event);
    }

    fn kill(&mut self, request: &KillRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let signal = i32::try_from(request.signal).unwrap_or(-1);
        let finished = || Status::new(Code::NotFound, "process already finished");
        let Some(pidfd) = &process.pidfd else {
            return Err(match process.exit {
                Some(_) => finished(),
                None => Status::new(Code::FailedPrecondition, "process not created"),
            });
        };
        match wharf_sys::handle::send(pidfd, signal) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Err(finished()),
            Err(Errno::INVAL) => return Err(Status::new(Code::InvalidArgument, format!("signal {signal}"))),
            Err(errno) => return Err(Status::new(Code::Internal, format!("send signal {signal}: {errno}"))),
        }
        if request.all && request.exec_id.is_empty() {
            let sent = container.cgroup()?.signal(signal);
            sent.map_err(|error| status_of_cgroup("signal the container", &error))?;
        }
        // A frozen process does not even die.
        if request.signal == SIGKILL && container.is_paused {
            let thawed = container.cgroup()?.thaw();
            thawed.map_err(|error| status_of_cgroup("resume the container", &error))?;
            container.is_paused = false;
        }
        Ok(Vec::new())
    }

    fn resize(&mut self, request: &ResizePtyRequest) -> Outcome {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        let size = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        if let Some(console) = &process.console {
            let done = console.resize(size(request.height), size(request.width));
            done.map_err(|errno| Status::new(Code::Internal, format!("resize the terminal: {errno}")))?;
        }
        Ok(Vec::new())
    }

    fn close_io(&mut self, request: &CloseIoRequest) -> Outcome {
        let process = self.container(&request.id)?.process_mut(&request.exec_id)?;
        if request.stdin {
            process.stdin_keeper = None;
        }
        Ok(Vec::new())
    }

    fn update(&mut self, request: &UpdateTaskRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let resources: Resources = from_json(request.resources.as_ref(), "resources")?;
        let limits = wharf_runtime::cgroups::convert(&resources).map_err(|error| status_of(&error))?;
        let updated = container.cgroup()?.update(&limits);
        updated.map_err(|error| status_of_cgroup("update the limits", &error))?;
        Ok(Vec::new())
    }

    fn stats(&mut self, request: &ProcessRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let cgroup = container.cgroup()?;
        let failed = |error| status_of_cgroup("measure the container", &error);
        let stats = cgroup.stats().map_err(failed)?;
        let swap = cgroup.details().map_err(failed)?.swap;
        let response = StatsResponse {
            stats: Some(crate::task_api::metrics::metrics(cgroup.version(), &stats, swap)),
        };
        Ok(response.encode())
    }

    fn connect(&mut self, request: &ProcessRequest) -> Outcome {
        let task_pid = self
            .containers
            .get(&request.id)
            .map_or(0, |container| container.init.pid.cast_unsigned());
        let response = ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(response.encode())
    }
}

impl Container {
    fn require_running(&self) -> Result<(), Status> {
        if self.init.is_started && self.init.exit.is_none() && !self.is_paused {
            return Ok(());
        }
        Err(Status::new(Code::FailedPrecondition, "container is not running"))
    }
}

/// Options of runc's shim; those that name another program are refused rather than ignored.
fn options_of(options: Option<&Any>) -> Result<RuncOptions, Status> {
    let Some(any) = options.filter(|any| !any.type_url.is_empty()) else {
        return Ok(RuncOptions::default());
    };
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    if name != "containerd.runc.v1.Options" && name != "containerd.linux.runc.CreateOptions" {
        return Err(Status::new(Code::InvalidArgument, format!("unknown options {name}")));
    }
    let options = RuncOptions::decode(&any.value)?;
    let refused = [
        ("shim_cgroup", &options.shim_cgroup),
        ("binary_name", &options.binary_name),
        ("root", &options.root),
    ];
    if let Some((field, value)) = refused.into_iter().find(|(_, value)| !value.is_empty()) {
        return Err(Status::new(
            Code::InvalidArgument,
            format!("option {field} ({value:?}) has no meaning for this shim"),
        ));
    }
    Ok(options)
}

/// A value of the runtime specification, which travels as JSON.
fn from_json<T: serde::de::DeserializeOwned>(any: Option<&Any>, what: &str) -> Result<T, Status> {
    let bytes = any.map(|any| any.value.as_slice()).unwrap_or_default();
    serde_json::from_slice(bytes)
        .map_err(|error| Status::new(Code::InvalidArgument, format!("invalid {what}: {error}")))
}
