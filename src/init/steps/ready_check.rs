//! Starts a ready check, in a child that is as the commands of the user's hooks.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair};

use crate::config::plan::{Phase, ReadyCheck, VassalPlan};
use crate::error::{Context, Result};
use crate::init::child::enclosed::enclose;
use crate::init::child::launch::Launch;
use crate::init::child::outputs::Outputs;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::event_loop::ready_check::Check;
use crate::init::jail::Jail;
use crate::init::steps::hooks;
use crate::place::Place;

/// Starts the check of the plan. If that fails, the check has failed.
pub fn start(events: &mut EventLoop, jail: &Jail, plan: &VassalPlan) {
    if let Some(check) = &plan.readiness.check {
        events.check_started(launch(jail, plan, &check.value));
    }
}

fn launch(jail: &Jail, plan: &VassalPlan, check: &ReadyCheck) -> Result<Check> {
    // It is nothing that the next instance could make use of, and may hang.
    let dies_with_us = !rustix::process::getpid().is_init();
    let child = Launch { dies_with_us, ..hooks::child_for(jail, plan, Phase::Accepting) };
    match check {
        ReadyCheck::Exec(command) => {
            let (link, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                    .context("create", "a link to the check")?;
            let first = || enclose(&theirs);
            let own = Outputs::default();
            let launch = Launch { first: Some(&first), outputs: &own, dies_with_us: false, ..child };
            let launched = launch.command(command)?;
            Ok(Check { launched, link: Some(link) })
        }
        ReadyCheck::Connect(address) => {
            let work = || reach(&address.place).context("connect to", &address.name).map(|()| String::new());
            Ok(Check { launched: child.work(work)?, link: None })
        }
        // Nobody asks to start this one.
        ReadyCheck::Notify => child.work(|| Ok(String::new())).map(|launched| Check { launched, link: None }),
    }
}

/// Connects to an address, and hangs up.
fn reach(place: &Place) -> rustix::io::Result<()> {
    let socket = |family| socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    match place {
        Place::File(path) => connect(socket(AddressFamily::UNIX)?, &SocketAddrUnix::new(path.as_path())?),
        Place::Abstract(name) => {
            connect(socket(AddressFamily::UNIX)?, &SocketAddrUnix::new_abstract_name(name)?)
        }
        Place::Internet(address) if address.is_ipv4() => connect(socket(AddressFamily::INET)?, address),
        Place::Internet(address) => connect(socket(AddressFamily::INET6)?, address),
    }
}
