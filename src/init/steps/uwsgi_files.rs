//! Files that uWSGI opens as root before it becomes its user: made for that user here, where uWSGI is the
//! user from its first instruction.

use std::path::Path;

use rustix::fs::{Access, Mode, OFlags, access};

use crate::config::plan::{Located, VassalPlan};
use crate::error::{Cause, Described, Result};
use crate::identity::Identity;
use crate::init::child::launch::Progress;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::jail::Jail;
use crate::init::steps::sockets::PATIENCE;
use crate::path::Walk;
use crate::running_time;
use crate::sys::exec::c_string;
use crate::user_namespace;

/// Makes those of the files that are missing, and says which of them the user may not write: uWSGI ends then.
pub fn provide(events: &mut EventLoop, jail: &Jail, plan: &VassalPlan) {
    let Some(user) = jail.identity.as_ref().filter(|user| user.is_ordinary()) else { return };
    for Located { value: path, key, at } in &plan.output.of_uwsgi {
        let mode = if &**key == "pidfile" { 0o644 } else { 0o640 };
        let may = if key.starts_with("https") { Access::READ_OK } else { Access::WRITE_OK };
        let child = jail.worker(false).work(|| {
            if may == Access::WRITE_OK && &**key != "spooler" {
                // If it cannot be made, the user cannot write it.
                let _ = make(&jail.walk, path, mode, user);
            }
            user.assume(None)?;
            let done = access(c_string(path.as_os_str()), may);
            Ok(done.err().map_or(String::new(), |errno| Described(errno).to_string()))
        });
        // Without a child, there is none for uWSGI either.
        let Ok(child) = child else { return };
        let ended = events.wait_or_kill(child.pid, running_time::now() + PATIENCE);
        if let (Some(_), Progress::Said(why)) = (ended, child.progress()) {
            let uid = user.uid.unwrap_or_default();
            let path = path.display();
            crate::log!("{at}: {key}: uWSGI opens {path} as user {uid}: {why}: have it belong to that user");
        }
    }
}

/// Makes a file that belongs to the user, unless there is one.
fn make(walk: &Walk, path: &Path, mode: u32, user: &Identity) -> Result<(), Cause> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = walk.open_to_change(path, flags, Mode::from_raw_mode(mode))?;
    user_namespace::chown(&file, user.uid, user.gid)
}
