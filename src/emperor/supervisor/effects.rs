//! The registry's decisions, carried out.

use std::rc::Rc;
use std::time::Instant;

use super::supervisor::Supervisor;
use crate::config::plan::Address;
use crate::emperor::commands::config_check;
use crate::emperor::core::effect::Effect;
use crate::emperor::core::event::Event;
use crate::emperor::core::owner::Owner;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::kept_sockets::Kept;
use crate::emperor::instance::on_demand;
use crate::error::Result;
use crate::log_of;
use crate::protocol::{ToVassal, WaitStatus};

impl Supervisor {
    /// Carries out everything that the registry has decided. The registry is told the result of an effect
    /// before the next effect is carried out.
    pub(super) fn run_effects(&mut self, now: Instant) {
        while let Some((file, effect)) = self.registry.next_effect() {
            if let Some(event) = self.carry_out(&file, effect, now) {
                self.registry.apply(&file, event, now);
            }
        }
    }

    /// Carries one effect out. Returns the result, if that is known at once.
    fn carry_out(&mut self, file: &Rc<VassalFile>, effect: Effect, now: Instant) -> Option<Event> {
        match effect {
            Effect::Log(line) => log_of!(file, "{line}"),
            Effect::FindAddress { why } => return self.find_address(file, why, now),
            Effect::ForgetAddress => self.questions.forget(file),
            Effect::Spawn => return Some(self.spawn(file, now)),
            Effect::RunCommands => {
                if let Some(process) = self.handles.process(file) {
                    self.commands.begin(file, process, now);
                }
            }
            Effect::Listen => return self.listen(file, now),
            Effect::Poll => return self.handles.poll(file).err().map(Event::ListenFailed),
            Effect::CloseDemand => {
                self.handles.stop_polling(file);
                self.handles.with_kept(file, Kept::close_demand);
            }
            Effect::CloseSockets { for_good } => {
                if self.handles.with_kept(file, Kept::close) > 0 {
                    let until = if for_good { "" } else { " until it runs again" };
                    log_of!(file, "its sockets are closed{until}");
                }
            }
            Effect::HandOverSockets { to } => self.handles.hand_over_sockets(file, &to),
            Effect::Reload => return self.reload(file, now),
            Effect::CheckConfig { why } => return Some(self.check_config(file, why, now)),
            Effect::ForgetCheck => self.checks.forget(file),
            Effect::Look => {
                return Some(Event::Waits(
                    self.handles.process(file).and_then(|process| process.waits_for()),
                ));
            }
            Effect::AskToStop => {
                if let Some(process) = self.handles.process(file) {
                    process.send(&ToVassal::Stop, None);
                }
            }
            Effect::Kill => {
                if let Some(process) = self.handles.process(file) {
                    if !process.kill() {
                        log_of!(file, "pid {} is gone, reaped by another program", process.number());
                        return self.release(file, WaitStatus::Signaled(libc::SIGKILL));
                    }
                    self.freeing.killed(process, file);
                }
            }
            Effect::Remove => self.handles.remove(file),
        }
        None
    }

    /// Where the first connection to a vassal is waited for: a command may have to be asked, which answers
    /// later.
    fn find_address(&mut self, file: &Rc<VassalFile>, why: String, now: Instant) -> Option<Event> {
        if self.questions.ask(file, &why, now) {
            self.take_replies(now);
            return None;
        }
        Some(Event::Address { why, address: self.spawner.demand(file) })
    }

    fn spawn(&mut self, file: &Rc<VassalFile>, now: Instant) -> Event {
        self.note_version(file, now);
        match self.try_to_spawn(file) {
            Ok((pid, owner)) => Event::Spawned { pid, owner },
            Err(error) => Event::SpawnFailed(error),
        }
    }

    fn try_to_spawn(&mut self, file: &Rc<VassalFile>) -> Result<(i32, Owner)> {
        self.open_demand(file, "create", "a process", 1)?;
        let process = self.handles.with_kept(file, |kept| self.spawner.spawn(file, kept))?;
        let created = (process.number(), process.owner);
        self.handles.add_process(file, process)?;
        Ok(created)
    }

    fn listen(&mut self, file: &Rc<VassalFile>, now: Instant) -> Option<Event> {
        // After an upgrade the same version is no reason to find out the address again.
        self.note_version(file, now);
        match self.open_demand(file, "wait for", "a connection", 0) {
            Ok(()) => self.demand_of(file).map(|address| Event::Listening(address.name.clone())),
            Err(error) => Some(Event::ListenFailed(error)),
        }
    }

    /// Makes the on-demand socket that a vassal is to have, unless it is there already, and waits for no
    /// connection to an earlier one. `operation` and `object` are for the error message; `processes` is
    /// the number of processes that are about to be created.
    fn open_demand(
        &mut self,
        file: &Rc<VassalFile>,
        operation: &str,
        object: &str,
        processes: usize,
    ) -> Result<()> {
        self.is_ours(file)?;
        self.handles.stop_polling(file);
        let address = self.demand_of(file).cloned();
        let has_none = self.handles.kept(file).is_none_or(|kept| kept.demand().is_none());
        let missing = u64::from(address.is_some() && has_none);
        let (processes, sockets) = (self.handles.processes() + processes, self.handles.sockets() + missing);
        self.spawner.has_room(operation, object, processes, sockets)?;
        self.handles.with_kept(file, |kept| {
            if !listens_at(kept, address.as_ref()) {
                kept.close_demand();
                if let Some(address) = &address {
                    kept.set_demand(address.place.clone(), on_demand::open(address)?);
                }
            }
            Ok(())
        })
    }

    fn reload(&mut self, file: &Rc<VassalFile>, now: Instant) -> Option<Event> {
        self.note_version(file, now);
        let impossible = |why: &str| Some(Event::ReloadImpossible(why.to_owned()));
        let kept = self.handles.kept(file)?;
        if !listens_at(kept, self.demand_of(file)) {
            return impossible(if kept.is_lost() {
                "nobody can connect to its on-demand socket any more"
            } else {
                "another on-demand address"
            });
        }
        // It can only be run where there is no jail yet.
        if self.spawner.is_program(file) {
            return impossible("its file is a program");
        }
        let process = self.handles.process(file)?;
        match self.spawner.copy(file) {
            Ok((copy, owner)) if self.spawner.may_run(process, owner) => {
                process.send(&ToVassal::Reload, Some(&copy));
                Some(Event::ReloadSent)
            }
            Err(error) if !self.spawner.is_tyrant() => Some(Event::ReloadFailed(error)),
            // The file may have become another user's, or root's: then the app must not go on as it was.
            Err(error) => impossible(&error.to_string()),
            Ok((_, Owner { uid, gid })) => {
                impossible(&format!("its file belongs to user {uid}, group {gid} now"))
            }
        }
    }

    fn check_config(&mut self, file: &Rc<VassalFile>, why: String, now: Instant) -> Event {
        let processes = self.handles.processes() + self.checks.count() + 1;
        let room = self.spawner.has_room("create", "a process", processes, self.handles.sockets());
        match room.and_then(|()| self.checks.begin(&self.spawner, file, &why, now)) {
            Ok(()) => Event::CheckBegun(config_check::TIMEOUT),
            Err(error) => Event::CheckFailed { error, why },
        }
    }

    /// Before a file is read: a change in between counts as one that was not seen.
    fn note_version(&mut self, file: &Rc<VassalFile>, now: Instant) {
        let version = self.spawner.version(file);
        self.registry.apply(file, Event::Reading(version), now);
    }

    /// Where the first connection to a vassal is to be waited for, if it is on demand.
    fn demand_of(&self, file: &VassalFile) -> Option<&Address> {
        self.registry.vassal(file)?.on_demand()
    }
}

/// Whether the on-demand socket is the one that is to be there.
fn listens_at(kept: &Kept, address: Option<&Address>) -> bool {
    let wanted = address.map(|address| &address.place);
    wanted == kept.demand().map(|(place, _)| place) && !kept.is_lost()
}
