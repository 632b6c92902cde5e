//! The course of an upgrade in the main loop: the trial, the moment at which nothing is half done, and the
//! continuation in the new program.

use std::time::{Duration, Instant};

use super::emperor::Emperor;
use super::log_file;
use super::stale::{self, Stale};
use super::upgrade::{self, Tried};
use super::upgrades::{HANGING_UP, Reason, UnderWay, Upgrades};
use crate::emperor::api::control;
use crate::emperor::core::saved::Saved;
use crate::emperor::core::saved::encode::encode;
use crate::emperor::core::text::later;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::discovery::directories::FileChange;
use crate::emperor::discovery::scan::Change;
use crate::emperor::discovery::scout::Finding;
use crate::emperor::pid_file::PidFile;
use crate::log;
use crate::running_time;
use crate::version::VERSION;

/// Vassals that were taken over are ended if no scan has found their files after this time, because their
/// directories are no longer the emperor's. A file that is just being written is found within this time.
const CLAIMING: Duration = Duration::from_secs(10);

/// Begins to find out whether the present program file can take over; `client` has requested that.
///
/// # Errors
/// An upgrade is under way, or the program cannot be tried.
pub(super) fn begin(emperor: &mut Emperor, client: Option<u64>, now: Instant) -> Result<(), String> {
    match &emperor.upgrades.under_way {
        // An upgrade by request replaces a trial that the emperor has begun by itself.
        None | Some(UnderWay { reason: Reason::Stale, .. }) => {}
        Some(_) => return Err("an upgrade is under way".to_owned()),
    }
    emperor.upgrades.under_way = None;
    let reason = client.map_or(Reason::Signal, Reason::Command);
    try_out(emperor, reason, now)?;
    if let Some(client) = client {
        emperor.server.wait(client, later(now, control::PATIENCE_WITH_UPGRADES));
    }
    log!("upgrade: trying the new program");
    Ok(())
}

fn try_out(emperor: &mut Emperor, reason: Reason, now: Instant) -> Result<(), String> {
    let state = encode(&save(emperor, None), now);
    let tried = emperor.upgrades.upgrade.try_out(&state, now);
    tried.map_err(|error| upgrade::refused(&error.to_string()))?;
    emperor.upgrades.under_way = Some(UnderWay { reason, accepted: None });
    Ok(())
}

/// Executes the new program if its trial has succeeded and nothing is half done.
pub(super) fn go_on(emperor: &mut Emperor, now: Instant) {
    try_again(emperor, now);
    if let Some(tried) = emperor.upgrades.upgrade.time(now) {
        take_verdict(emperor, tried, now);
    }
    for (pid, status) in emperor.supervisor.take_other_children() {
        if let Some(tried) = emperor.upgrades.upgrade.ended(pid, status) {
            take_verdict(emperor, tried, now);
        }
        log_file::ended(&mut emperor.log_relay, pid);
    }
    let Some(UnderWay { reason, accepted: Some(since) }) = emperor.upgrades.under_way else { return };
    let is_late = now.saturating_duration_since(since) >= HANGING_UP;
    let has_settled = emperor.server.has_answered() && emperor.supervisor.has_tidied_up();
    // The new program does not know who is renamed.
    let is_settled = has_settled && !emperor.supervisor.registry().is_renaming() || is_late;
    // Running commands, and changes of files that were not handled yet, are known to this program only.
    if is_settled && emperor.discovery.is_idle() && emperor.supervisor.commands_are_idle(now) {
        let client = match reason {
            Reason::Command(client) => emperor.server.descriptor_of(client),
            Reason::Signal | Reason::Stale => None,
        };
        let mut saved = save(emperor, client);
        let mut kept = Vec::new();
        saved.each_descriptor(&mut |number| kept.push(*number));
        // A try that is repeated every second is not logged every second.
        if reason != Reason::Stale {
            log!("upgrade: handing {} over to the new program", emperor.supervisor.registry().count());
        }
        // Nobody would ever end them: an emperor's children end with it, and it does not end at an exec.
        let before = &|| {
            emperor.discovery.kill_hanging();
            emperor.supervisor.kill_hanging();
        };
        let error = emperor.upgrades.upgrade.exec(&encode(&saved, running_time::now()), &kept, before);
        refuse(emperor, &error.to_string(), now);
    }
}

/// Tries the configuration again that the last upgrade could not use, when that is due.
fn try_again(emperor: &mut Emperor, now: Instant) {
    let Upgrades { under_way, stale, .. } = &mut emperor.upgrades;
    if let (None, Some(stale), None) = (under_way, stale, emperor.stopping)
        && stale.try_at() <= now
    {
        stale.put_off(now);
        if let Err(why) = try_out(emperor, Reason::Stale, now) {
            stale::tell(&mut emperor.upgrades.stale, why);
        }
    }
}

fn take_verdict(emperor: &mut Emperor, Tried { verdict, output }: Tried, now: Instant) {
    let Some(under_way) = &mut emperor.upgrades.under_way else { return };
    match (verdict, under_way.reason) {
        (Ok(()), _) => under_way.accepted = Some(now),
        (Err(why), Reason::Stale) => {
            emperor.upgrades.under_way = None;
            let mistake = if output.is_empty() { why } else { output };
            stale::tell(&mut emperor.upgrades.stale, mistake);
        }
        (Err(why), Reason::Signal | Reason::Command(_)) => {
            stale::log_lines(&output);
            refuse(emperor, &why, now);
        }
    }
}

/// Gives up the present upgrade.
fn refuse(emperor: &mut Emperor, why: &str, now: Instant) {
    let text = upgrade::refused(why);
    match emperor.upgrades.under_way.take().map(|under_way| under_way.reason) {
        Some(Reason::Stale) => stale::tell(&mut emperor.upgrades.stale, text),
        Some(Reason::Command(client)) => {
            log!("{text}");
            emperor.server.answer(client, control::answer(Err(text)), now);
        }
        Some(Reason::Signal) | None => log!("{text}"),
    }
}

/// Gives up any upgrade, because the emperor stops.
pub(super) fn stop(emperor: &mut Emperor, now: Instant) {
    match &emperor.upgrades.under_way {
        Some(UnderWay { reason: Reason::Signal | Reason::Command(_), .. }) => {
            refuse(emperor, "the emperor is stopping", now);
        }
        Some(UnderWay { reason: Reason::Stale, .. }) | None => emperor.upgrades.under_way = None,
    }
    emperor.upgrades.stale = None;
}

fn save(emperor: &Emperor, client: Option<i32>) -> Saved<&Vassal> {
    Saved {
        origin: emperor.origin.save(),
        began: emperor.about.began,
        client,
        pid_file: emperor.pid_file.as_ref().map(PidFile::save).unwrap_or_default(),
        basis: emperor.basis.save(),
        listeners: emperor.server.save(),
        vassals: emperor.supervisor.save(),
    }
}

/// Goes on where the program before the upgrade has stopped; with its configuration, if the present one is
/// `stale`.
pub(super) fn take_over(emperor: &mut Emperor, saved: Saved, stale: Option<Stale>, now: Instant) {
    emperor.about.began = saved.began;
    let client = saved.client;
    emperor.supervisor.take_over(saved.vassals, now);
    let text = format!("version {VERSION} has taken over {}", emperor.supervisor.registry().count());
    let told = match &stale {
        Some(stale) => Err(format!("{text}, but its configuration is that of before: {}", stale.reason())),
        None => Ok(text),
    };
    let (Ok(text) | Err(text)) = &told;
    log!("upgrade: {text}");
    if let Some(client) = client {
        emperor.server.answer_inherited(client, control::answer(told), now);
    }
    emperor.upgrades.stale = stale;
    emperor.upgrades.unclaimed_since = Some(now);
    // Deaths during the exec were reported to the program before the upgrade.
    emperor.supervisor.reap(now);
}

/// Takes in what a scout has found, and returns it if it is to be acted on now. The new name of a file of a
/// vassal that was taken over waits: it may have been renamed during the exec.
pub(super) fn take_in(emperor: &mut Emperor, mut finding: Finding) -> Option<Finding> {
    let Upgrades { arriving, unclaimed_since, .. } = &mut emperor.upgrades;
    let FileChange { file, change } = &mut finding.change;
    let before = match change {
        Change::Renamed { before } => file.beside(before),
        _ => file.beside(file.file()),
    };
    if arriving.iter().any(|other| *other.change.file == before)
        && matches!(change, Change::Changed | Change::Renamed { .. })
    {
        *change = Change::Appeared;
    }
    arriving.retain(|other| *other.change.file != before && other.change.file != *file);
    if unclaimed_since.is_some()
        && *change == Change::Appeared
        && emperor.supervisor.registry().unclaimed(file, finding.version.id()).is_some()
    {
        arriving.push(finding);
        return None;
    }
    Some(finding)
}

/// After a complete scan of a source, before [`claim`]: the new names that need not wait any longer.
pub(super) fn arrived(emperor: &mut Emperor, now: Instant) -> Vec<Finding> {
    let Emperor { upgrades: Upgrades { arriving, unclaimed_since, .. }, supervisor, discovery, .. } = emperor;
    let is_late = unclaimed_since.is_none_or(|since| later(since, CLAIMING) <= now);
    let knows = |finding: &mut Finding| {
        let file = &finding.change.file;
        let Some(from) = supervisor.registry().unclaimed(file, finding.version.id()) else { return true };
        let is_gone = discovery.given_up(from, is_late).is_some();
        if is_gone {
            finding.change.change = Change::Renamed { before: from.as_os_str().to_owned() };
        }
        is_gone || is_late
    };
    arriving.extract_if(.., knows).collect()
}

/// After a complete scan of a source: ends vassals that were taken over and whose files no longer exist.
pub(super) fn claim(emperor: &mut Emperor, now: Instant) {
    let Some(since) = emperor.upgrades.unclaimed_since else { return };
    let is_late = now.saturating_duration_since(since) >= CLAIMING;
    let discovery = &emperor.discovery;
    let given_up = |file: &VassalFile| discovery.given_up(file, is_late);
    let left = emperor.supervisor.drop_unclaimed(given_up, now);
    emperor.upgrades.unclaimed_since = left.then_some(since);
    if !left || is_late {
        emperor.server.settle(true);
    }
}
