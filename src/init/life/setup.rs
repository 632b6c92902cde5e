//! The life of a vassal from the first phase to the running app, in order.
//!
//! From [`run`] on this process may be PID 1 of a namespace: it does not leave on an error, it ends the vassal.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, open};

use crate::accounts::Accounts;
use crate::config::plan::{Action, Phase, VassalPlan};
use crate::identity::Identity;
use crate::init::outcome::{End, interrupted, setup_failure, step, step_of};
use crate::init::steps::capabilities::{self, MountPower};
use crate::init::steps::cgroups::OOM_SCORE;
use crate::init::steps::hooks::{Failed, SLOW};
use crate::init::steps::{app, cgroups, hooks, owner, root, sockets};
use crate::init::vassal::{Setup, Vassal};
use crate::init::watch::mountpoints::Maker;
use crate::log::Elapsed;
use crate::mount::mountinfo::Mount;
use crate::mount::ops::{self};
use crate::protocol::EXIT_SETUP;

/// Runs a vassal to its end and returns the exit status. All signals are blocked already.
pub fn run(setup: Setup) -> i32 {
    let mut vassal = match Vassal::new(setup) {
        Ok(vassal) => vassal,
        Err(error) => {
            crate::log!("{error}");
            return EXIT_SETUP;
        }
    };
    // From here on nothing returns early: whatever happens becomes an End.
    let end = match vassal.set_up() {
        Ok(()) => vassal.main_loop(),
        Err(end) => end,
    };
    let status = vassal.finish(end);
    // The process ends now, and the kernel takes everything back at once.
    std::mem::forget(vassal);
    status
}

impl Vassal {
    /// Everything up to the running app.
    fn set_up(&mut self) -> Result<(), End> {
        if self.jail.has_namespace(libc::CLONE_NEWNS) {
            // Before the first hook: nothing that is mounted here may turn up where we come from.
            step("namespaces", ops::make_all_private())?;
        }
        // The kernel keeps it from a process that has become another user; what may be written to it, it decides anew. What an
        // owner's file asks for is not known yet.
        let may_be_wanted = self.jail.owner.is_some() || self.source.plan.resources.oom_score_adj.is_some();
        let oom_score =
            may_be_wanted.then(|| open(OOM_SCORE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()));
        if let Some(owner) = self.jail.owner {
            self.phase(Phase::AsVassal)?;
            owner::become_owner(&mut self.events, &mut self.jail, &mut self.source, owner)?;
        }
        self.events.oom = step("limits", cgroups::limit(&self.jail, &self.source.plan, oom_score))?;
        self.note_foreign_fuse();
        if let Some(name) = &self.source.plan.jail.hostname {
            step_of("namespaces", name, self.jail.set_hostname(&name.value))?;
        }
        self.note_maker(Maker::Outside)?;
        for phase in [Phase::AsVassal, Phase::Asap, Phase::PreJail] {
            self.phase(phase)?;
        }
        let host = Accounts::read();
        let plan = Rc::clone(&self.source.plan);
        if let Some(path) = &plan.jail.chroot {
            step_of(
                "jail",
                path,
                root::change(&mut self.events, &mut self.jail, &plan, "new root:", &path.value),
            )?;
        }
        if let Some(pivot) = &plan.jail.pivot_root {
            step_of("jail", pivot, root::pivot(&mut self.events, &mut self.jail, &plan, &pivot.value))?;
        }
        if plan.jail.chroot.is_some() || plan.jail.pivot_root.is_some() {
            // What was mounted before cannot be mounted again from in here.
            self.note_maker(Maker::Outside)?;
        }
        for phase in [Phase::PostJail, Phase::InJail, Phase::AsRoot] {
            self.phase(phase)?;
        }
        // Under the root that the app will see, if that answers at all.
        if root::coming_root(&self.source.plan).is_some() {
            step(
                "privilege drop",
                root::ask_about(&mut self.events, &self.jail, &plan, "read", Path::new("/etc/passwd")),
            )?;
        }
        let accounts = Accounts::read_in_jail(host);
        let mut identity = step("privilege drop", Identity::resolve(&self.source.plan.run_as, &accounts))?;
        if let Some(owner) = self.jail.owner {
            step("privilege drop", identity.must_be(owner.uid, owner.gid))?;
        }
        let own = rustix::process::geteuid();
        if identity.uid.is_none()
            && !own.is_root()
            && self.events.sources.link().is_some()
            && !self.jail.has_namespace(libc::CLONE_NEWUSER)
        {
            // An emperor that is not root leaves us capabilities for the jail. They are not for the app.
            identity.uid = Some(own.as_raw());
        }
        self.jail.identity = Some(identity.clone());
        let kept = std::mem::take(&mut self.life.kept);
        let opened = sockets::open(&mut self.events, &self.jail, &plan, &accounts, kept);
        if opened.is_err() && self.events.is_interrupted() {
            return Err(interrupted(&self.events));
        }
        self.life.sockets = step("sockets", opened)?;
        if identity.is_ordinary() && !self.source.plan.app.is_privileged() {
            step(
                "privilege drop",
                capabilities::reduce_pid1(self.source.plan.start_rights(), self.mount_power()),
            )?;
        }
        self.events.mountpoints.set_user(identity);
        // A working directory would pin whatever is mounted there.
        step("privilege drop", root::go_to_root(&mut self.events, &self.jail, &plan, "working directory:"))?;
        self.jail.jail_workdir = self.jail.workdir.clone();
        self.run_app()
    }

    /// What is left to do about mounts. By now it is known which of them root has made.
    fn mount_power(&self) -> MountPower {
        let by_root = |maker| matches!(maker, Maker::Phase(phase) if phase <= Phase::AsRoot);
        match self.source.plan.remounts() {
            true if self.events.mountpoints.makers().any(by_root) => MountPower::All,
            true => MountPower::Unmount,
            // Nobody else takes the dead mount away, and the next instance needs the place.
            false if !self.jail.has_namespace(libc::CLONE_NEWNS) => MountPower::Unmount,
            false => MountPower::None,
        }
    }

    /// From the privilege drop to the running app: what a reload does again, in the same jail.
    fn run_app(&mut self) -> Result<(), End> {
        self.phase(Phase::AsUser)?;
        self.pass_gate()?;
        self.phase(Phase::PreApp)?;
        app::start(&mut self.events, &mut self.jail, &self.source.plan, &self.life.sockets)?;
        self.life.had_app = true;
        app::await_program(&mut self.events, &self.source.plan)?;
        match self.phase(Phase::PostApp) {
            // The app runs, or has ended: the main loop knows what follows.
            Err(End::Stopped) => Ok(()),
            result => result,
        }
    }

    /// Runs the app as another plan says, once the old one is gone.
    pub(in crate::init) fn run_again(&mut self, plan: Rc<VassalPlan>) -> Result<(), End> {
        self.jail.umask = plan.umask;
        self.source.plan = plan;
        // What was copied from the old plan at the start.
        self.events.mountpoints.set_plan(&self.source.plan.mountpoints, Instant::now());
        self.note_foreign_fuse();
        self.events.app = None;
        // The one before said it, on its way out.
        self.events.is_accepting = false;
        self.jail.workdir = self.jail.jail_workdir.clone();
        self.jail.set_environment(&self.source.plan);
        // What the hooks of the jail have set lasts, though they do not run again.
        for hook in Rc::clone(&self.source.fresh).hooks.iter().filter(|hook| hook.phase <= Phase::AsRoot) {
            match &hook.action {
                Action::Putenv(name, value) => self.jail.set_variable(name, Some(value.clone())),
                Action::Umask(mask) => self.jail.umask = Some(*mask),
                _ => {}
            }
        }
        self.run_app()
    }

    /// Notes which FUSE connections are older than the first hook: at the start, or at the first reload that brings hooks.
    fn note_foreign_fuse(&mut self) {
        if self.jail.foreign_fuse.is_none() && !self.source.plan.hooks.is_empty() {
            let mounts = self.jail.procfs.mounts().ok();
            self.jail.foreign_fuse =
                mounts.map(|mounts| mounts.iter().filter_map(Mount::connection).collect());
        }
    }

    pub(in crate::init) fn phase(&mut self, phase: Phase) -> Result<(), End> {
        hooks::run(&mut self.events, &mut self.jail, &self.source.plan, phase).map_err(
            |failed| match failed {
                Failed::Hook(failure) => End::Setup(failure, EXIT_SETUP),
                Failed::Interrupted => interrupted(&self.events),
                Failed::Exit(status) => End::Hook(status),
            },
        )?;
        self.note_maker(Maker::Phase(phase))
    }

    /// Keeps in mind who has mounted what, where that decides whether it can be mounted again.
    fn note_maker(&mut self, maker: Maker) -> Result<(), End> {
        if !self.source.plan.remounts() || self.events.mountpoints.is_empty() {
            return Ok(());
        }
        step("mountpoint-lost", self.events.mountpoints.note_maker(maker))
    }

    /// The app starts only when every checked path is a mount that answers.
    fn pass_gate(&mut self) -> Result<(), End> {
        if self.events.mountpoints.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let deadline = start + self.source.plan.mountpoints.timeout;
        let mut slow = Some(start + SLOW);
        step("mountpoint-check", self.events.sources.watch_mounts(&self.jail.procfs))?;
        loop {
            let now = Instant::now();
            if step("mountpoint-check", self.events.mountpoints.look(now))? {
                let paths: Vec<_> = self
                    .source
                    .plan
                    .mountpoints
                    .checks
                    .iter()
                    .map(|path| path.value.display().to_string())
                    .collect();
                crate::log!("mountpoint {} answers after {}", paths.join(", "), Elapsed(start.elapsed()));
                // What a hook of as-user has left to a process in the background counts as made by as-user.
                return self.note_maker(Maker::Phase(Phase::AsUser));
            }
            if let (true, Some((check, trouble))) = (now >= deadline, self.events.mountpoints.trouble()) {
                let (path, waited) = (check.value.display(), Elapsed(now - start));
                let what =
                    format!("mountpoint {path}: {trouble}, after {waited} ({}: {})", check.at, check.key);
                return Err(setup_failure("mountpoint-check", 0, what, 0));
            }
            if slow.take_if(|slow| now >= *slow).is_some()
                && let Some((check, trouble)) = self.events.mountpoints.trouble()
            {
                let (path, most) = (check.value.display(), Elapsed(self.source.plan.mountpoints.timeout));
                crate::log!(
                    "mountpoint {path}: {trouble}, after {}; it is given {most}",
                    Elapsed(now - start)
                );
            }
            self.events.wait(None, slow.into_iter().chain([deadline]).min());
            if self.events.is_interrupted() {
                return Err(interrupted(&self.events));
            }
        }
    }
}
