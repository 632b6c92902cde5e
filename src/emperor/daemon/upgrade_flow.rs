//! An upgrade as the main loop sees it: the trial, the moment when nothing is half done, and going on in the new program.

use std::time::{Duration, Instant};

use super::files::PidFile;
use super::main_loop::{Emperor, VERSION};
use super::upgrade;
use crate::emperor::api::control;
use crate::emperor::core::saved::Saved;
use crate::emperor::core::text::later;
use crate::emperor::core::vassal_file::VassalFile;
use crate::log;

/// Vassals that were taken over and whose files no scan has found by then are ended: their directories are not ours
/// any more. A file that is just being written is found within this time.
const CLAIMING: Duration = Duration::from_secs(10);

/// So long an upgrade waits for those who are being answered; who says nothing, or does not read, is hung up on.
const HANGING_UP: Duration = Duration::from_secs(1);

/// An upgrade that is under way.
pub(super) struct Upgrading {
    /// Who asked for it by command.
    client: Option<u64>,
    /// When the new program has understood.
    accepted: Option<Instant>,
}

impl Upgrading {
    /// When those who are being answered are not waited for any more.
    pub(super) fn hangs_up_at(&self) -> Option<Instant> {
        self.accepted.map(|since| since + HANGING_UP)
    }
}

impl Emperor {
    /// Finds out whether the program that is there now can take our place.
    pub(super) fn begin_upgrade(&mut self, client: Option<u64>, now: Instant) -> Result<(), String> {
        if self.upgrading.is_some() {
            return Err("an upgrade is under way".to_owned());
        }
        let state = self.save(None).encode(now);
        self.upgrade.try_out(&state, now).map_err(|error| upgrade::refused(&error.to_string()))?;
        self.upgrading = Some(Upgrading { client, accepted: None });
        if let Some(client) = client {
            self.server.wait(client, later(now, control::PATIENCE_WITH_UPGRADES));
        }
        log!("upgrade: trying the new program");
        Ok(())
    }

    /// Lets the new program take our place when it has understood and nothing is half done.
    pub(super) fn go_on_upgrading(&mut self, now: Instant) {
        self.upgrade.time(now);
        for (pid, status) in self.supervisor.take_strangers() {
            match (self.upgrade.ended(pid, status), &mut self.upgrading) {
                (Some(Ok(())), Some(upgrading)) => upgrading.accepted = Some(now),
                (Some(Err(why)), Some(_)) => self.refuse_upgrade(&why, now),
                (Some(_), None) | (None, _) => {}
            }
        }
        let Some(Upgrading { client, accepted: Some(since) }) = self.upgrading else { return };
        let answered = self.server.has_answered() || now.saturating_duration_since(since) >= HANGING_UP;
        // The commands are known to us only, and what was found in the directories has not been acted on.
        if answered && self.changes.is_empty() && self.supervisor.commands_are_idle() {
            let saved = self.save(client.and_then(|client| self.server.descriptor_of(client)));
            let kept = saved.descriptors();
            log!("upgrade: the new program takes over {}", self.supervisor.registry().count());
            let error = self.upgrade.exec(&saved.encode(Instant::now()), &kept);
            self.refuse_upgrade(&error.to_string(), now);
        }
    }

    pub(super) fn refuse_upgrade(&mut self, why: &str, now: Instant) {
        let text = upgrade::refused(why);
        log!("{text}");
        if let Some(Upgrading { client: Some(client), .. }) = self.upgrading.take() {
            self.server.answer(client, control::answer(Err(text)), now);
        }
    }

    fn save(&self, client: Option<i32>) -> Saved {
        let (mask, nofile) = self.origin.save();
        let (listeners, vassals) = (self.server.save(), self.supervisor.save());
        let pid_file = self.pid_file.as_ref().map(PidFile::save).unwrap_or_default();
        Saved { mask, nofile, began: self.began, client, pid_file, listeners, vassals }
    }

    /// Goes on where the program before us has stopped.
    pub(super) fn take_over(&mut self, saved: Saved, now: Instant) {
        self.began = saved.began;
        let client = saved.client;
        self.supervisor.take_over(saved.vassals, now);
        let text = format!("version {VERSION} has taken over {}", self.supervisor.registry().count());
        log!("upgrade: {text}");
        if let Some(client) = client {
            self.server.tell(client, control::answer(Ok(text)), now);
        }
        self.taken_over = Some(now);
        // Their deaths in between were told to the program before us.
        self.supervisor.reap(now);
    }

    /// After a scan: vassals that were taken over and whose files it does not find any more.
    pub(super) fn claim(&mut self, now: Instant) {
        let Some(since) = self.taken_over else { return };
        let all = now.saturating_duration_since(since) >= CLAIMING;
        if all || self.changes.is_empty() {
            let is_found = |file: &VassalFile| self.changes.iter().any(|(found, _)| **found == *file);
            let would_be = |file: &VassalFile| all && self.directories.looked_for(file) && !is_found(file);
            let left = self.supervisor.drop_unclaimed(would_be, now);
            self.taken_over = left.then_some(since);
        }
    }
}
