//! The life of a vassal from the first phase to the running app, in order.
//!
//! The process may be PID 1 of a namespace: it does not leave on an error, every error becomes an end.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, open};

use crate::accounts::Accounts;
use crate::config::plan::{Action, Phase, RunAs, VassalPlan};
use crate::identity::Identity;
use crate::init::child::launch::Workdir;
use crate::init::event_loop::wakeup::Interruption;
use crate::init::outcome::{End, setup_failure, step, step_of};
use crate::init::steps::capabilities::{self, MountPower};
use crate::init::steps::cgroups::OOM_SCORE;
use crate::init::steps::hooks::{Failed, SLOW};
use crate::init::steps::{app, cgroups, hooks, owner, root, sockets};
use crate::init::vassal::Vassal;
use crate::init::watch::mountpoints::Maker;
use crate::log::Elapsed;
use crate::mount::mountinfo::Mount;
use crate::mount::ops::{self};

/// Everything up to the running app.
pub fn set_up(vassal: &mut Vassal) -> Result<(), End> {
    if vassal.jail.has_namespace(libc::CLONE_NEWNS) {
        // Before the first hook: nothing that is mounted here may turn up where we come from.
        step("namespaces", ops::make_all_private())?;
    }
    // The kernel keeps it from a process that has become another user; what may be written to it, it decides anew. What an
    // owner's file asks for is not known yet.
    let may_be_wanted = vassal.jail.owner.is_some() || vassal.source.plan.resources.oom_score_adj.is_some();
    let oom_score = may_be_wanted.then(|| open(OOM_SCORE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()));
    if let Some(owner) = vassal.jail.owner {
        run_phase(vassal, Phase::AsVassal)?;
        owner::become_owner(&mut vassal.events, &mut vassal.jail, &mut vassal.source, owner)?;
    }
    vassal.events.oom = step("limits", cgroups::limit(&vassal.jail, &vassal.source.plan, oom_score))?;
    note_foreign_fuse(vassal);
    if let Some(name) = &vassal.source.plan.jail.hostname {
        step_of("namespaces", name, vassal.jail.set_hostname(&name.value))?;
    }
    note_maker(vassal, Maker::Outside)?;
    for phase in [Phase::AsVassal, Phase::Asap, Phase::PreJail] {
        run_phase(vassal, phase)?;
    }
    // Where nobody asks for an account, none is read.
    let names_accounts = vassal.jail.owner.is_some()
        || vassal.source.plan.run_as != RunAs::default()
        || vassal.source.plan.listen.iter().any(|listen| listen.value.owner.is_some());
    let host = if names_accounts { Accounts::read() } else { Accounts::none() };
    let plan = Rc::clone(&vassal.source.plan);
    if let Some(path) = &plan.jail.chroot {
        let changed = root::change(&mut vassal.events, &mut vassal.jail, &plan, "new root:", &path.value);
        unless_interrupted(vassal, step_of("jail", path, changed))?;
    }
    if let Some(pivot) = &plan.jail.pivot_root {
        let changed = root::pivot(&mut vassal.events, &mut vassal.jail, &plan, &pivot.value);
        unless_interrupted(vassal, step_of("jail", pivot, changed))?;
    }
    if plan.jail.chroot.is_some() || plan.jail.pivot_root.is_some() {
        // What was mounted before cannot be mounted again from in here.
        note_maker(vassal, Maker::Outside)?;
    }
    for phase in [Phase::PostJail, Phase::InJail, Phase::AsRoot] {
        run_phase(vassal, phase)?;
    }
    // Under the root that the app will see, if that answers at all.
    if root::coming_root(&vassal.source.plan).is_some() {
        let answer =
            root::ask_about(&mut vassal.events, &vassal.jail, &plan, "read", Path::new("/etc/passwd"));
        unless_interrupted(vassal, step("privilege drop", answer))?;
    }
    let accounts = if names_accounts { Accounts::read_in_jail(host) } else { host };
    let mut identity = step("privilege drop", Identity::resolve(&vassal.source.plan.run_as, &accounts))?;
    if let Some(owner) = vassal.jail.owner {
        step("privilege drop", identity.must_be(owner.uid, owner.gid))?;
    }
    let own = rustix::process::geteuid();
    if identity.uid.is_none()
        && !own.is_root()
        && vassal.events.link().is_some()
        && !vassal.jail.has_namespace(libc::CLONE_NEWUSER)
    {
        // An emperor that is not root leaves us capabilities for the jail. They are not for the app.
        identity.uid = Some(own.as_raw());
    }
    vassal.jail.identity = Some(identity.clone());
    let kept = std::mem::take(&mut vassal.life.kept);
    let opened = step("sockets", sockets::open(&mut vassal.events, &vassal.jail, &plan, &accounts, kept));
    vassal.life.sockets = unless_interrupted(vassal, opened)?;
    if identity.is_ordinary() && !vassal.source.plan.app.is_privileged() {
        step(
            "privilege drop",
            capabilities::reduce_pid1(vassal.source.plan.start_rights(), mount_power(vassal)),
        )?;
    }
    let changes_user = !identity.is_unchanged();
    vassal.events.mountpoints.set_user(identity);
    // A working directory would pin whatever is mounted there. A command starts where we are; it may have no name for that.
    vassal.jail.is_at_start &= matches!(vassal.jail.workdir, Workdir::Inherited(_)) && !changes_user;
    if !vassal.jail.is_at_start {
        let gone = root::go_to_root(&mut vassal.events, &vassal.jail, &plan, "working directory:");
        unless_interrupted(vassal, step("privilege drop", gone))?;
    }
    vassal.jail.jail_workdir = vassal.jail.workdir.clone();
    run_app(vassal)
}

/// What is left to do about mounts. By now it is known which of them root has made.
fn mount_power(vassal: &Vassal) -> MountPower {
    let by_root = |maker| matches!(maker, Maker::Phase(phase) if phase <= Phase::AsRoot);
    match vassal.source.plan.remounts() {
        true if vassal.events.mountpoints.makers().any(by_root) => MountPower::All,
        true => MountPower::Unmount,
        // Nobody else takes the dead mount away, and the next instance needs the place.
        false if !vassal.jail.has_namespace(libc::CLONE_NEWNS) => MountPower::Unmount,
        false => MountPower::None,
    }
}

/// From the privilege drop to the running app: what a reload does again, in the same jail.
fn run_app(vassal: &mut Vassal) -> Result<(), End> {
    run_phase(vassal, Phase::AsUser)?;
    pass_gate(vassal)?;
    run_phase(vassal, Phase::PreApp)?;
    app::start(&mut vassal.events, &mut vassal.jail, &vassal.source.plan, &vassal.life.sockets)?;
    vassal.life.had_app = true;
    let started = app::await_program(&mut vassal.events, &vassal.source.plan);
    // A command that is started again, after a lost mount was made anew, needs them once more.
    if !vassal.source.plan.remounts() {
        vassal.jail.let_go();
    }
    started?;
    let Vassal { events, jail, source, .. } = vassal;
    match hooks::run(events, jail, &source.plan, Phase::PostApp) {
        // Only a running app survives a loss.
        Err(Failed::Interrupted(Interruption::Lost(lost))) => return Err(End::Lost(lost.what)),
        // The app runs, or has ended: the main loop knows what follows.
        Err(Failed::Interrupted(interruption)) => {
            events.put_interruption_back(interruption);
            return Ok(());
        }
        result => result?,
    }
    note_maker(vassal, Maker::Phase(Phase::PostApp))
}

/// Runs the app as another plan says, once the old one is gone.
pub fn run_again(vassal: &mut Vassal, plan: Rc<VassalPlan>) -> Result<(), End> {
    vassal.jail.umask = plan.umask;
    vassal.source.plan = plan;
    // What was copied from the old plan at the start.
    vassal.events.mountpoints.set_plan(&vassal.source.plan.mountpoints, Instant::now());
    note_foreign_fuse(vassal);
    vassal.events.app = None;
    vassal.jail.workdir = vassal.jail.jail_workdir.clone();
    vassal.jail.set_environment(&vassal.source.plan);
    // What the hooks of the jail have set lasts, though they do not run again.
    for hook in Rc::clone(&vassal.source.fresh).hooks.iter().filter(|hook| hook.phase <= Phase::AsRoot) {
        match &hook.action {
            Action::Putenv(name, value) => vassal.jail.environment.set(name, Some(value.clone())),
            Action::Umask(mask) => vassal.jail.umask = Some(*mask),
            _ => {}
        }
    }
    run_app(vassal)
}

/// Notes which FUSE connections are older than the first hook: at the start, or at the first reload that brings hooks.
fn note_foreign_fuse(vassal: &mut Vassal) {
    if vassal.jail.foreign_fuse.is_none() && !vassal.source.plan.hooks.is_empty() {
        let mounts = vassal.jail.procfs.mounts().ok();
        vassal.jail.foreign_fuse = mounts.map(|mounts| mounts.iter().filter_map(Mount::connection).collect());
    }
}

/// Runs the hooks of a phase.
///
/// # Errors
/// The end that a failure, an interruption or a hook comes to.
pub fn run_phase(vassal: &mut Vassal, phase: Phase) -> Result<(), End> {
    let Vassal { events, jail, source, .. } = vassal;
    hooks::run(events, jail, &source.plan, phase)?;
    note_maker(vassal, Maker::Phase(phase))
}

/// A step that failed while something came up which makes it pointless: that is the end, and not the failure.
fn unless_interrupted<T>(vassal: &mut Vassal, result: Result<T, End>) -> Result<T, End> {
    result.map_err(|end| vassal.events.check().err().map_or(end, End::from))
}

/// Keeps in mind who has mounted what, where that decides whether it can be mounted again.
pub fn note_maker(vassal: &mut Vassal, maker: Maker) -> Result<(), End> {
    if !vassal.source.plan.remounts() || vassal.events.mountpoints.is_empty() {
        return Ok(());
    }
    step("mountpoint-lost", vassal.events.mountpoints.note_maker(maker))
}

/// The app starts only when every checked path is a mount that answers.
fn pass_gate(vassal: &mut Vassal) -> Result<(), End> {
    if vassal.events.mountpoints.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    let deadline = start + vassal.source.plan.mountpoints.timeout;
    let mut slow = Some(start + SLOW);
    step("mountpoint-check", vassal.events.watch_mounts(&vassal.jail.procfs))?;
    loop {
        let now = Instant::now();
        if step("mountpoint-check", vassal.events.mountpoints.look(now))? {
            let paths: Vec<_> = vassal
                .source
                .plan
                .mountpoints
                .checks
                .iter()
                .map(|path| path.value.display().to_string())
                .collect();
            crate::log!("mountpoint {} answers after {}", paths.join(", "), Elapsed(start.elapsed()));
            // What a hook of as-user has left to a process in the background counts as made by as-user.
            return note_maker(vassal, Maker::Phase(Phase::AsUser));
        }
        if let (true, Some((check, trouble))) = (now >= deadline, vassal.events.mountpoints.trouble()) {
            let (path, waited) = (check.value.display(), Elapsed(now - start));
            let what = format!("mountpoint {path}: {trouble}, after {waited} ({}: {})", check.at, check.key);
            return Err(setup_failure("mountpoint-check", 0, what, 0));
        }
        if slow.take_if(|slow| now >= *slow).is_some()
            && let Some((check, trouble)) = vassal.events.mountpoints.trouble()
        {
            let (path, most) = (check.value.display(), Elapsed(vassal.source.plan.mountpoints.timeout));
            crate::log!("mountpoint {path}: {trouble}, after {}; it is given {most}", Elapsed(now - start));
        }
        vassal.events.pause(None, slow.into_iter().chain([deadline]).min())?;
    }
}
