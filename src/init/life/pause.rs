//! The pause of catatonit (`-P`): holds the namespaces of a pod open, and reaps.

use std::rc::Rc;

use crate::config::cmdline::entrypoint::Entrypoint;
use crate::config::plan::VassalPlan;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::event_loop::wakeup::Wakeup;
use crate::init::watch::mountpoints::Mountpoints;
use crate::init::watch::procfs::Procfs;
use crate::running_time;
use crate::sys::fd;

/// Reaps until SIGTERM or SIGINT comes, and returns the exit status. All signals are blocked already.
pub fn pause(entry: Rc<Entrypoint>) -> i32 {
    let _ = rustix::process::chdir(c"/");
    fd::close_inherited();
    let nothing =
        Mountpoints::new(&VassalPlan::default().mountpoints, Rc::new(Procfs::at_proc()), running_time::now());
    let mut events = EventLoop::new(Some(entry), None, nothing);
    loop {
        let Wakeup { signals, stop: _, lost: _, reload: _ } = events.wait(None, None);
        if signals.iter().any(|number| [libc::SIGTERM, libc::SIGINT].contains(number)) {
            return 0;
        }
    }
}
