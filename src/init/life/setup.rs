//! The life of a vassal from the first phase to the running app, in order.
//!
//! The process may be PID 1 of a namespace, so no error makes it leave: every error becomes an end.

use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::accounts::Accounts;
use crate::config::plan::{Id, Phase, RunAs, VassalPlan};
use crate::error::{Error, Result};
use crate::identity::{Identity, held};
use crate::init::child::seccomp;
use crate::init::event_loop::wakeup::Interruption;
use crate::init::jail::Jail;
use crate::init::outcome::{Ended, setup_failure, step, step_of};
use crate::init::steps::capabilities::{self, MountPower};
use crate::init::steps::cgroups::OOM_SCORE;
use crate::init::steps::hooks::{Failed, SLOW};
use crate::init::steps::{app, cgroups, hooks, outputs, owner, root, sockets, uwsgi_files};
use crate::init::vassal::Vassal;
use crate::init::watch::checked_path::Maker;
use crate::log::Elapsed;
use crate::mount::ops;
use crate::outside;
use crate::protocol::Replication;
use crate::running_time;
use crate::sys::creds;
use crate::user_namespace;

/// Does everything up to the privilege drop.
///
/// # Errors
/// The end that a failed step or an interruption comes to.
pub fn set_up(vassal: &mut Vassal) -> Result<(), Ended> {
    take_on_surroundings(vassal)?;
    // In tyrant mode the hooks of the emperor's file have run already, and the plan of the owner's file has
    // none of them.
    for phase in [Phase::AsVassal, Phase::Asap, Phase::PreJail] {
        run_phase(vassal, phase)?;
    }
    note_accounts(vassal);
    change_root(vassal)?;
    for phase in [Phase::PostJail, Phase::InJail, Phase::AsRoot] {
        run_phase(vassal, phase)?;
    }
    drop_privileges(vassal)
}

/// Makes all mounts private. In a user namespace this is the first thing that takes its privileges.
fn make_private(jail: &Jail) -> Result<()> {
    // Not the other way round: 0, as an error without a number has it, is no Errno.
    let refusals = [Errno::PERM, Errno::ACCESS];
    ops::make_all_private().map_err(|error| {
        let refusal = refusals.into_iter().find(|errno| errno.raw_os_error() == error.errno());
        match refusal.filter(|_| jail.has_namespace(libc::CLONE_NEWUSER)) {
            Some(errno) => error.with_clue(user_namespace::explain(errno, libc::CLONE_NEWUSER as u64)),
            None => error,
        }
    })
}

/// Takes on what holds for everything in the vassal: private mounts, the owner's identity, cgroups, the host
/// name.
fn take_on_surroundings(vassal: &mut Vassal) -> Result<(), Ended> {
    if vassal.jail.has_namespace(libc::CLONE_NEWNS) {
        // Nothing that a hook mounts may show in the namespace that we come from.
        step("namespaces", make_private(&vassal.jail))?;
        step("namespaces", mount_proc(vassal))?;
    }
    // Opened before the change of identity, after which the kernel refuses it. What may be written is decided
    // at the write. The file of an owner is not read yet, so it may ask for it.
    let may_be_wanted = vassal.jail.owner.is_some() || vassal.source.plan.resources.oom_score_adj.is_some();
    let oom_score = may_be_wanted.then(|| open(OOM_SCORE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()));
    if let Some(owner) = vassal.jail.owner {
        // What the emperor's file says is opened as root.
        outputs::guard(&mut vassal.jail);
        open_outputs(vassal)?;
        run_phase(vassal, Phase::AsVassal)?;
        owner::become_owner(&mut vassal.events, &mut vassal.jail, &mut vassal.source, owner)?;
    }
    open_outputs(vassal)?;
    vassal.events.tell_replication(Replication::default(), vassal.source.plan.replication);
    let counters = step("limits", cgroups::limit(&vassal.jail, &vassal.source.plan, oom_score))?;
    vassal.events.watch_cgroups(counters);
    let older = vassal.jail.note_foreign_fuse(&vassal.source.plan);
    vassal.events.mountpoints.note_older(&older);
    if let Some(wanted) = &vassal.source.plan.privileges.seccomp {
        // Here, as the file is one of the host's.
        vassal.jail.set_filter(step_of("seccomp", wanted, seccomp::filter(&wanted.value))?);
    }
    if let Some(name) = &vassal.source.plan.jail.hostname {
        step_of("namespaces", name, vassal.jail.set_hostname(&name.value))?;
    }
    note_maker(vassal, Maker::Outside)
}

fn open_outputs(vassal: &mut Vassal) -> Result<(), Ended> {
    let Vassal { events, jail, source, .. } = vassal;
    outputs::open(events, jail, &source.plan)
}

/// Mounts a `/proc` of the vassal's own processes, where it would see all of the host there. In another root
/// there is none before a hook mounts one. In tyrant mode the plan that could say no is its owner's, who
/// cannot.
///
/// # Errors
/// As [`Procfs::mount`](crate::init::watch::procfs::Procfs::mount).
fn mount_proc(vassal: &Vassal) -> Result<()> {
    let plan = &vassal.source.plan.jail;
    if !vassal.jail.has_namespace(libc::CLONE_NEWPID) || plan.keeps_proc || plan.new_root().is_some() {
        return Ok(());
    }
    vassal.jail.procfs.mount().map_err(|error| {
        let reason = format!("{error}: 'mount-proc = false' leaves the processes of the host in sight");
        Error::new("make", "a /proc of its own", reason)
    })
}

/// Whether anything may ask for a user or a group.
fn wants_accounts(vassal: &Vassal) -> bool {
    let plan = &vassal.source.plan;
    vassal.jail.owner.is_some()
        || plan.run_as != RunAs::default()
        || plan.clean_env
        || plan.jail.new_root().is_some() && !plan.hooks.is_empty()
        || plan.listen.iter().any(|listen| listen.value.owner.is_some())
}

/// Notes the accounts of the host, before the root changes. Where nothing can change them they are read once,
/// at the privilege drop.
fn note_accounts(vassal: &mut Vassal) {
    let plan = &vassal.source.plan;
    let may_change = vassal.jail.owner.is_some() || plan.jail.new_root().is_some() || !plan.hooks.is_empty();
    if may_change && wants_accounts(vassal) {
        vassal.jail.note_accounts();
    }
}

fn change_root(vassal: &mut Vassal) -> Result<(), Ended> {
    let plan = Rc::clone(&vassal.source.plan);
    if let Some(path) = &plan.jail.chroot {
        let changed = root::change(&mut vassal.events, &mut vassal.jail, &plan, "new root:", &path.value);
        unless_interrupted(vassal, step_of("jail", path, changed))?;
    }
    if let Some(pivot) = &plan.jail.pivot_root {
        let changed = root::pivot(&mut vassal.events, &mut vassal.jail, &plan, &pivot.value);
        unless_interrupted(vassal, step_of("jail", pivot, changed))?;
    }
    if plan.jail.new_root().is_some() {
        // What was mounted before the change cannot be mounted again from inside.
        note_maker(vassal, Maker::Outside)?;
    }
    Ok(())
}

/// Finds out whom the app runs as, opens its sockets while there are rights to, and gives up the rights of
/// PID 1.
fn drop_privileges(vassal: &mut Vassal) -> Result<(), Ended> {
    let plan = Rc::clone(&vassal.source.plan);
    if plan.jail.new_root().is_some() {
        // Reading the accounts must not hang with the filesystem of the new root.
        let answer =
            root::ask_about(&mut vassal.events, &vassal.jail, &plan, "read", Path::new("/etc/passwd"));
        unless_interrupted(vassal, step("privilege drop", answer))?;
    }
    let accounts = vassal.jail.accounts();
    let accounts =
        accounts.unwrap_or_else(|| if wants_accounts(vassal) { Accounts::read() } else { Accounts::none() });
    let mut identity = step("privilege drop", Identity::resolve(&plan.run_as, &accounts))?;
    if let Some(owner) = vassal.jail.owner {
        step("privilege drop", identity.must_be(owner.uid, owner.gid))?;
    }
    let own = rustix::process::geteuid();
    if identity.uid.is_none() && !own.is_root() && vassal.events.link().is_some() {
        // An emperor that is not root leaves us capabilities for the jail. They are not for the app.
        identity.uid = Some(own.as_raw());
    }
    vassal.jail.set_identity(identity.clone());
    if plan.clean_env {
        let user = match &plan.run_as.uid {
            Some(user) => accounts.user_of(user),
            None => accounts.user(&Id::Number(identity.uid.unwrap_or(own.as_raw()))),
        };
        vassal.jail.set_user(&plan, step("privilege drop", user)?);
    }
    let kept = std::mem::take(&mut vassal.life.kept);
    let opened = step("sockets", sockets::open(&mut vassal.events, &vassal.jail, &plan, &accounts, kept));
    vassal.life.sockets = unless_interrupted(vassal, opened)?;
    uwsgi_files::provide(&mut vassal.events, &vassal.jail, &plan);
    vassal.events.mountpoints.note_daemons();
    vassal.jail.forbid_typing(&plan, &identity);
    if identity.is_ordinary() && vassal.jail.app_is_users(&plan) {
        if own.is_root() {
            // Its own groups are not needed any more. Where it may not give them up, it keeps them.
            let _ = creds::set_groups(&[]);
        }
        let reduced = capabilities::reduce_pid1(plan.start_rights(), mount_power(vassal));
        step("privilege drop", reduced)?;
    }
    if !held().is_ok_and(|has| has.effective.contains(CapabilitySet::SYS_ADMIN)) {
        // From now on no path is walked for a mount, so nobody has to be asked whose files are.
        outside::ask_over(None);
    }
    vassal.events.mountpoints.set_user(identity);
    // A command starts in the directory that its starter was in, which need not have a name any more.
    // Everything else leaves it now: a working directory keeps its filesystem from being unmounted.
    if !vassal.jail.stays_at_start(&plan) {
        let gone = root::go_to_root(&mut vassal.events, &vassal.jail, &plan, "working directory:");
        unless_interrupted(vassal, step("privilege drop", gone))?;
    }
    vassal.jail.note_workdir();
    Ok(())
}

/// What PID 1 may still have to do about mounts. It is known by now which of them were made with the rights
/// of root.
fn mount_power(vassal: &Vassal) -> MountPower {
    let by_root = |maker| matches!(maker, Maker::Phase(phase) if phase <= Phase::AsRoot);
    match vassal.source.plan.remounts() {
        true if vassal.events.mountpoints.makers().any(by_root) => MountPower::All,
        true => MountPower::Unmount,
        false if vassal.events.mountpoints.is_empty() => MountPower::None,
        // The next instance needs the place of a dead mount, and only we take it away.
        false if !vassal.jail.has_namespace(libc::CLONE_NEWNS) => MountPower::Unmount,
        false => MountPower::None,
    }
}

/// Does everything from the privilege drop to the running app. A reload does it again, in the same jail.
///
/// # Errors
/// The end that a failed step or an interruption comes to.
pub fn run_app(vassal: &mut Vassal) -> Result<(), Ended> {
    run_phase(vassal, Phase::AsUser)?;
    pass_gate(vassal)?;
    // As in uWSGI, a command of pre-app is in the app's directory: a checked mount may have it.
    if let Some(path) = &vassal.source.plan.chdir {
        vassal.jail.change_workdir(&path.value);
    }
    run_phase(vassal, Phase::PreApp)?;
    app::start(&mut vassal.events, &mut vassal.jail, &vassal.source.plan, &vassal.life.sockets)?;
    vassal.life.had_app = true;
    let started = app::await_program(&mut vassal.events, &vassal.source.plan);
    // A command that may be started again, after a lost mount was made anew, needs the descriptors once more.
    if !vassal.source.plan.remounts() {
        vassal.jail.let_go();
    }
    started?;
    let Vassal { events, jail, source, .. } = vassal;
    match hooks::run(events, jail, &source.plan, Phase::PostApp) {
        // The app runs, or has ended. The main loop deals with that. Only a running app survives a loss.
        Err(Failed::Interrupted(interruption)) if !matches!(*interruption, Interruption::Lost(_)) => {
            events.put_interruption_back(*interruption);
            return Ok(());
        }
        result => result?,
    }
    note_maker(vassal, Maker::Phase(Phase::PostApp))
}

/// Runs the app as another plan says, once the old app is gone.
///
/// # Errors
/// The end that a failed step or an interruption comes to.
pub fn run_again(vassal: &mut Vassal, plan: Rc<VassalPlan>) -> Result<(), Ended> {
    vassal.source.run_by(plan);
    // The watch has copied its times from the old plan.
    vassal.events.mountpoints.set_plan(&vassal.source.fresh.mountpoints, running_time::now());
    let _ = vassal.jail.note_foreign_fuse(&vassal.source.plan);
    vassal.events.forget_app();
    vassal.jail.start_over(&vassal.source.plan, &vassal.source.fresh);
    run_app(vassal)
}

/// Runs the hooks of a phase.
///
/// # Errors
/// The end that a failure, an interruption or a hook comes to.
pub fn run_phase(vassal: &mut Vassal, phase: Phase) -> Result<(), Ended> {
    let Vassal { events, jail, source, .. } = vassal;
    hooks::run(events, jail, &source.plan, phase)?;
    note_maker(vassal, Maker::Phase(phase))
}

/// Puts an interruption in the place of the failure of a step that was interrupted.
fn unless_interrupted<T>(vassal: &mut Vassal, result: Result<T, Ended>) -> Result<T, Ended> {
    result.map_err(|end| vassal.events.check().err().map_or(end, Ended::from))
}

/// Notes which phase has mounted what, where that decides whether it can be mounted again.
///
/// # Errors
/// The end, because the mount table cannot be read.
pub fn note_maker(vassal: &mut Vassal, maker: Maker) -> Result<(), Ended> {
    let plan = &vassal.source.plan;
    if !plan.remounts() || vassal.events.mountpoints.is_empty() {
        return Ok(());
    }
    step("mountpoint-check", vassal.events.mountpoints.note_maker(maker))
}

/// Refuses an overlay that may be over a FUSE filesystem whose end nobody would notice.
fn refuse_unchecked_layer(vassal: &mut Vassal) -> Result<(), Ended> {
    let foreign = vassal.jail.foreign_fuse.as_deref().unwrap_or_default();
    let Some((check, layer)) = vassal.events.mountpoints.unchecked_layer(foreign) else { return Ok(()) };
    let what = format!(
        "mountpoint {}: it does not show the end of a FUSE filesystem that may be under it, {layer}: check \
         that, too, if need be where 'mount = none PATH DIR bind' puts it in the jail ({}: {})",
        check.value.display(),
        check.at,
        check.key
    );
    Err(setup_failure("mountpoint-check", 0, what, 0))
}

/// Waits until every checked path is a mount that answers. The app starts only then. At a reload an answer
/// from before says nothing: a path that does not answer any more is lost after the time for that.
fn pass_gate(vassal: &mut Vassal) -> Result<(), Ended> {
    if vassal.events.mountpoints.is_empty() {
        return Ok(());
    }
    let start = running_time::now();
    let deadline = start + vassal.source.plan.mountpoints.timeout;
    let mut slow = Some(start + SLOW);
    step("mountpoint-check", vassal.events.watch_mounts(&vassal.jail.procfs))?;
    vassal.events.mountpoints.suspect(start);
    loop {
        let now = running_time::now();
        if step("mountpoint-check", vassal.events.mountpoints.look(now))?
            && vassal.events.mountpoints.have_answered_since(start)
        {
            refuse_unchecked_layer(vassal)?;
            if slow.is_none() {
                vassal.events.waits_no_more();
            }
            let paths: Vec<_> = vassal
                .source
                .plan
                .mountpoints
                .checks
                .iter()
                .map(|path| path.value.display().to_string())
                .collect();
            crate::log!(
                "mountpoint {} answers after {}",
                paths.join(", "),
                Elapsed(running_time::since(start))
            );
            // A mount that a background process of an as-user hook has made counts as made by as-user.
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
            let waited = Elapsed(now - start);
            vassal
                .events
                .tell_wait(format!("mountpoint {path}: {trouble}, after {waited}; it is given {most}"));
        }
        vassal.events.pause(None, running_time::earliest(&[slow, Some(deadline)]))?;
    }
}
