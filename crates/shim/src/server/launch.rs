//! Becoming a shim: from the engine's child to a process of its own with a created container.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use wharf_sys::failpoint;
use wharf_sys::signal::SignalSet;

use super::calls::process_of;
use super::container::{Container, Made, system};
use super::home::Home;
use super::logs::Logs;
use super::pace::Pace;
use super::reactor::{Interest, Reactor, Token};
use super::shim::{FIRST, Shim};
use super::view::View;
use crate::identity::{CONTROL_FD, DIRECTORY_FD};
use crate::plan::{AttachSpec, HostView, LaunchPlan};
use crate::protocol::{Call, Fault, FaultKind, Outcome, Phase, Reply, Request, Response};
use crate::wire;

const SIGNALS: [i32; 8] = [1, 2, 3, 10, 12, 13, 15, 17];

/// What the engine handed over.
struct Order {
    id: u64,
    plan: LaunchPlan,
    attaches: Vec<AttachSpec>,
    fds: Vec<OwnedFd>,
}

/// The role of the binary that keeps a container. Returns the exit code of the calling process,
/// which is not the shim: that goes on as its child, and nobody waits for it.
pub fn run() -> i32 {
    let (Some(dir), Some(control)) = (
        wharf_sys::fd::take_inherited(DIRECTORY_FD),
        wharf_sys::fd::take_inherited(CONTROL_FD),
    ) else {
        eprintln!(
            "wharf-shim keep: started by an engine only (descriptors {DIRECTORY_FD} and {CONTROL_FD} are missing)"
        );
        return 64;
    };
    match wharf_sys::clone::fork(move || keep(Home::new(dir), control)) {
        Ok(_) => 0,
        Err(errno) => {
            eprintln!("cannot fork: {}", std::io::Error::from(errno));
            71
        }
    }
}

/// The shim's whole life.
fn keep(home: Home, control: OwnedFd) -> i32 {
    let order = match receive_order(&control) {
        Ok(order) => order,
        Err(error) => {
            leave(&home);
            eprintln!("no usable order from the engine: {error}");
            return 65;
        }
    };
    failpoint::reach("shim/ordered");
    let id = order.id;
    let launched = match settle_in(&order.plan) {
        Ok(()) => launch(home, order),
        Err(fault) => Err((fault, home)),
    };
    let mut shim = match launched {
        Ok(shim) => shim,
        Err((fault, home)) => return give_up(id, fault, &home, &control),
    };
    let reply = shim.launched();
    let joined = shim.adopt_connection(control);
    if joined.is_ok()
        && let Some(connection) = shim.connections.values_mut().next()
    {
        connection.send(&Response {
            id,
            outcome: Outcome::Ok(reply),
        });
    }
    match shim.run() {
        Ok(()) => 0,
        Err(errno) => {
            eprintln!("cannot wait for events: {}", std::io::Error::from(errno));
            70
        }
    }
}

/// Removes what is there of a shim that keeps nothing.
fn leave(home: &Home) {
    // The files of the shim that lives here are its own.
    if home.keeper().is_none_or(|keeper| keeper == std::process::id()) {
        home.remove_all();
    }
}

/// Tells the engine why there is no container, and leaves nothing behind.
fn give_up(id: u64, fault: Fault, home: &Home, control: &OwnedFd) -> i32 {
    leave(home);
    eprintln!("{fault}");
    if let Ok(bytes) = wire::encode(&Response {
        id,
        outcome: Outcome::Err(fault),
    }) {
        // The engine may be gone, which is no concern of a shim that ends.
        let _ = wharf_sys::fdpass::send(control, &bytes, &[]);
    }
    1
}

/// Reads the first message, waiting for it.
fn receive_order(control: &OwnedFd) -> Result<Order, String> {
    let mut assembler = wire::Assembler::default();
    let mut fds = Vec::new();
    let mut buffer = [0u8; 16 << 10];
    let message = loop {
        if let Some(message) = assembler.next_message().map_err(|error| error.to_string())? {
            break message;
        }
        match wharf_sys::fdpass::receive(control, &mut buffer) {
            Ok((0, _)) => return Err("it hung up".to_owned()),
            Ok((length, more)) => {
                assembler.push(&buffer[..length]);
                fds.extend(more);
            }
            Err(errno) => return Err(std::io::Error::from(errno).to_string()),
        }
    };
    let request: Request = wire::decode(&message).map_err(|error| format!("{error:?}"))?;
    let Call::Launch { plan, attaches } = request.call else {
        return Err("not a launch".to_owned());
    };
    if attaches.len() != fds.len() {
        return Err(format!("{} descriptors for {} clients", fds.len(), attaches.len()));
    }
    Ok(Order {
        id: request.id,
        plan: *plan,
        attaches,
        fds,
    })
}

/// Leaves the engine's session, takes over orphans and finds its own place.
fn settle_in(plan: &LaunchPlan) -> Result<(), Fault> {
    let failed = |what: &'static str| move |errno: Errno| system(what, errno);
    // The engine may have made this process a session leader already.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(failed("become a subreaper"))?;
    rustix::thread::set_name(c"wharf-shim").map_err(failed("set the name"))?;
    if let Some(hierarchy) = plan.hierarchy.clone() {
        hierarchy.assume();
    }
    if let Some(path) = &plan.shim_cgroup {
        join_cgroup(path)?;
    }
    Ok(())
}

fn join_cgroup(path: &str) -> Result<(), Fault> {
    let joined = wharf_cgroup::Hierarchy::probe()
        .and_then(|hierarchy| wharf_cgroup::Cgroup::create(&hierarchy, path))
        .and_then(|cgroup| cgroup.enter());
    joined.map_err(|error| super::container::chain_fault("join the shim's cgroup", &error))
}

/// Makes the container and everything around it.
fn launch(home: Home, order: Order) -> Result<Shim, (Fault, Home)> {
    match build(&home, &order.plan) {
        Err(fault) => Err((fault, home)),
        Ok((reactor, signals, listener, container, made)) => {
            let mut shim = Shim {
                id: order.plan.id.clone(),
                home,
                reactor,
                signals,
                listener,
                container,
                phase: Phase::Created,
                logs: Logs::new(order.plan.log.as_ref()),
                oom: None,
                oom_killed: false,
                view: None,
                connections: Default::default(),
                clients: Default::default(),
                processes: Default::default(),
                timers: Vec::new(),
                pace: Pace::new(),
                chunk: Vec::new(),
                next_number: FIRST,
                is_ending: false,
            };
            match shim.furnish(made, order) {
                Ok(()) => Ok(shim),
                Err(fault) => {
                    shim.destroy();
                    Err((fault, shim.home))
                }
            }
        }
    }
}

/// ORDER: signals are blocked before the first child exists; the container comes last, so that
/// nothing that can fail follows it; the score is lowered after, as children would inherit it.
fn build(home: &Home, plan: &LaunchPlan) -> Result<(Reactor, OwnedFd, OwnedFd, Container, Made), Fault> {
    if let Some(other) = home.keeper() {
        let message = format!("process {other} keeps this container already");
        return Err(Fault {
            kind: FaultKind::Conflict,
            message,
            ..Fault::default()
        });
    }
    let set = SignalSet::of(&SIGNALS);
    wharf_sys::signal::block(set).map_err(|errno| system("block signals", errno))?;
    let signals = wharf_sys::signal::open_signalfd(set).map_err(|errno| system("watch signals", errno))?;
    let reactor = Reactor::new().map_err(|errno| system("watch descriptors", errno))?;
    let listener = home.listen().map_err(|errno| system("listen for the engine", errno))?;
    home.write_pid()
        .map_err(|errno| system("record the process id", errno))?;
    failpoint::reach("shim/recorded");
    let (container, made) = Container::create(plan, home)?;
    failpoint::reach("shim/made");
    // Without the privilege the shim is as likely to be killed as anyone; the container goes on.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
    Ok((reactor, signals, listener, container, made))
}

impl Shim {
    /// Puts the container and the first clients in their places.
    fn furnish(&mut self, made: Made, order: Order) -> Result<(), Fault> {
        if order.plan.host_view == HostView::Limits {
            self.show_limits(&made)?;
        }
        self.welcome(made, order)
            .map_err(|errno| system("watch the container", errno))
    }

    fn welcome(&mut self, made: Made, order: Order) -> Result<(), Errno> {
        self.register()?;
        if let Some(shim) = self.container.shim() {
            self.reactor.add(shim.socket(), Token::ForeignShim, Interest::READ)?;
        }
        self.watch_process(FIRST, process_of(made, None, order.plan.stdio, 0))?;
        for (spec, fd) in order.attaches.iter().zip(order.fds) {
            self.attach(FIRST, spec, fd)?;
        }
        self.tidy();
        Ok(())
    }

    /// ORDER: while init waits, so that the container's program finds the files in place.
    fn show_limits(&mut self, made: &Made) -> Result<(), Fault> {
        let view = View::attach(made.pidfd.as_fd())?;
        for (index, device) in view.devices() {
            self.reactor
                .add(device, Token::View(index), Interest::READ)
                .map_err(|errno| system("watch the files of the host's view", errno))?;
        }
        self.view = Some(view);
        Ok(())
    }

    /// The answer to the engine's order.
    fn launched(&self) -> Reply {
        Reply::State(Box::new(self.state()))
    }
}
