//! Carries out the effects of the registry.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use super::supervisor::{BLOCKED, Supervisor};
use crate::config::plan::Address;
use crate::emperor::commands::config_check;
use crate::emperor::core::effect::{Decision, Effect, InstanceEffect};
use crate::emperor::core::event::{Event, InstanceEvent};
use crate::emperor::core::file_version::FileId;
use crate::emperor::core::instance_id::{FIRST, InstanceId};
use crate::emperor::core::machine::{Answer, State};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::text::later;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::kept_sockets::{Kept, TAKEN};
use crate::emperor::instance::on_demand;
use crate::emperor::instance::readers::{About, News, Purpose, Told};
use crate::emperor::instance::spawner::ReadFile;
use crate::error::Result;
use crate::place::Place;
use crate::protocol::{ToVassal, WaitStatus};
use crate::{log, log_of};

impl Supervisor {
    /// Carries out all effects that the registry has queued. The registry gets the result of an effect before
    /// the next effect is carried out.
    pub(super) fn run_effects(&mut self, now: Instant) {
        loop {
            match self.registry.next_decision() {
                Some(Decision::Log { of, line }) => log::line(&of, format_args!("{line}")),
                Some(Decision::OfVassal(file, effect)) => {
                    if let Some(event) = self.carry_out(&file, effect, now) {
                        self.registry.apply(&file, event, now);
                    }
                }
                Some(Decision::OfInstance(id, effect)) => {
                    if let Some(event) = self.carry_out_for(&id, effect, now) {
                        self.registry.apply_to(&id, event, now);
                    }
                }
                None => {
                    self.readers.serve(&self.spawner, self.handles.as_fd(), now);
                    let Some(told) = self.readers.take() else { return };
                    self.take_in(told, now);
                }
            }
        }
    }

    /// Carries out an effect on a vassal. Returns its result if that is known at once.
    fn carry_out(&mut self, file: &Rc<VassalFile>, effect: Effect, now: Instant) -> Option<Event> {
        let first = InstanceId::new(file, FIRST);
        match effect {
            Effect::FindAddress { why } => return self.find_address(file, why, now),
            Effect::ForgetAddress => {
                self.questions.forget(file);
                self.readers.forget(&first, About::Address);
            }
            Effect::Compare => self.read(&first, None, Purpose::Compare, now),
            Effect::Listen => return self.listen(file, now),
            Effect::Poll => return self.handles.poll(file).err().map(Event::ListenFailed),
            Effect::CloseDemand => {
                self.readers.forget(&first, About::Socket);
                self.handles.stop_polling(file);
                self.handles.with_kept(file, Kept::close_demand);
            }
            Effect::CloseSockets { for_good } => {
                if self.handles.with_kept(file, Kept::close) > 0 {
                    let until = if for_good { "" } else { " until it runs again" };
                    // Many vassals may end for good at once: their sockets are closed together, in this turn.
                    if !for_good {
                        self.handles.close_left();
                    }
                    log_of!(file, "its sockets are closed{until}");
                }
            }
            Effect::HandOverSockets { to } => self.handles.hand_over_sockets(file, &to),
            Effect::ForgetSocket => self.readers.forget(&first, About::Socket),
            Effect::Remove => {
                for about in [About::File, About::Text, About::Address, About::Socket] {
                    self.readers.forget(&first, about);
                }
                self.handles.remove(file);
            }
        }
        None
    }

    /// Carries out an effect on an instance. Returns its result if that is known at once.
    fn carry_out_for(
        &mut self,
        id: &InstanceId,
        effect: InstanceEffect,
        now: Instant,
    ) -> Option<InstanceEvent> {
        match effect {
            InstanceEffect::Spawn => {
                // It would have a second turn.
                self.blocked.retain(|other| other != id);
                if !self.spawner.is_frozen() {
                    return self.begin(id, now);
                }
                self.block(id, now);
                return Some(InstanceEvent::Blocked("its cgroup is frozen"));
            }
            InstanceEffect::RunCommands => {
                if let Some(process) = self.handles.process(id) {
                    self.commands.begin(&id.file, self.registry.name_of(id), process, now);
                }
            }
            InstanceEffect::Reload => self.read(id, None, Purpose::Reload, now),
            InstanceEffect::CheckConfig { why } => self.read(id, None, Purpose::Check { why }, now),
            InstanceEffect::ForgetFile => {
                self.checks.forget(id);
                self.readers.forget(id, About::File);
            }
            InstanceEffect::Look => {
                return Some(InstanceEvent::Waits(
                    self.handles.process(id).and_then(|process| process.waits_for()),
                ));
            }
            InstanceEffect::TakeOver | InstanceEffect::GiveUp => {
                let gives_up = effect == InstanceEffect::GiveUp;
                if let Some(process) = self.handles.process(id) {
                    process.send(if gives_up { &ToVassal::GiveUp } else { &ToVassal::TakesOver }, None);
                }
            }
            InstanceEffect::AskToStop => {
                if let Some(process) = self.handles.process(id) {
                    let goes_on = self.registry.goes_on(&id.file);
                    process.send(if goes_on { &ToVassal::StopGracefully } else { &ToVassal::Stop }, None);
                }
            }
            InstanceEffect::KillApp => {
                if let Some(process) = self.handles.process(id) {
                    process.send(&ToVassal::StopNow, None);
                }
            }
            InstanceEffect::Kill => {
                // Once it is killed, no mount table has the filesystems that it mounted since its last
                // message.
                self.handles.note_fuse(id, &self.fusectl);
                if let Some(process) = self.handles.process(id) {
                    let name = self.registry.name_of(id);
                    if !process.kill() {
                        let pid = process.number();
                        log::line(&name, format_args!("pid {pid} is gone, reaped by another program"));
                        return self.release(id, WaitStatus::Signaled(libc::SIGKILL));
                    }
                    self.freeing.killed(process, id, name);
                }
            }
        }
        None
    }

    /// Notes that an instance may not start yet.
    fn block(&mut self, id: &InstanceId, now: Instant) {
        self.blocked.push(id.clone());
        self.look_at.get_or_insert(later(now, BLOCKED));
    }

    /// Begins to create an instance: with its file, which is read first, or with what has proven itself.
    fn begin(&mut self, id: &InstanceId, now: Instant) -> Option<InstanceEvent> {
        match self.registry.proven(id).map(|proven| self.spawner.instead(&id.file, proven)) {
            Some(read) => {
                self.readers.forget(id, About::File);
                self.file_was_read(id, News::Read(Purpose::Start, read), now)
            }
            None => {
                self.read(id, None, Purpose::Start, now);
                None
            }
        }
    }

    /// Has the file of an instance's vassal read, or something done with another path of the vassal's.
    pub(super) fn read(&mut self, id: &InstanceId, other: Option<PathBuf>, purpose: Purpose, now: Instant) {
        let user = self.registry.vassal(&id.file).and_then(Vassal::user);
        self.readers.ask(id, user, other, purpose, now);
    }

    /// Finds out the address of a vassal's on-demand socket. If a command or a file must be asked, the answer
    /// comes later.
    fn find_address(&mut self, file: &Rc<VassalFile>, why: String, now: Instant) -> Option<Event> {
        if self.questions.ask(file, &why, now) {
            self.take_replies(now);
            return None;
        }
        if let address_file @ Some(_) = self.spawner.address_file(file) {
            self.read(&InstanceId::new(file, FIRST), address_file, Purpose::Address { why }, now);
            return None;
        }
        Some(Event::Address { why, address: Ok(self.spawner.demand(file)) })
    }

    /// Takes in the result of a reading.
    fn take_in(&mut self, Told { id, about, news }: Told, now: Instant) {
        if about == About::Own {
            return self.own_news.push((id.file, news));
        }
        if let (About::File | About::Text, News::Read(_, Ok(read))) = (about, &news) {
            self.registry.apply(&id.file, Event::Reading(read.version), now);
        }
        match about {
            About::File => {
                if let Some(event) = self.file_was_read(&id, news, now) {
                    self.registry.apply_to(&id, event, now);
                }
            }
            About::Text | About::Address | About::Socket | About::Own => {
                if let Some(event) = self.take_in_for_vassal(&id.file, about, news, now) {
                    self.registry.apply(&id.file, event, now);
                }
            }
        }
    }

    /// Takes in that the file of an instance was read.
    fn file_was_read(&mut self, id: &InstanceId, news: News, now: Instant) -> Option<InstanceEvent> {
        match news {
            News::Slow => Some(InstanceEvent::ReadsSlowly),
            News::Answers => {
                self.registry.apply(&id.file, Event::Changed("its file can be read by now"), now);
                None
            }
            News::Read(Purpose::Start, read) => {
                let text = read.as_ref().ok().and_then(|read| read.text);
                let is_of_before = read.as_ref().is_ok_and(|read| read.is_transcript);
                match read.and_then(|read| self.try_to_spawn(id, &read, now)).transpose()? {
                    Ok((pid, owner)) => Some(InstanceEvent::Spawned { pid, owner, text, is_of_before }),
                    Err(error) => Some(InstanceEvent::SpawnFailed(error)),
                }
            }
            News::Read(Purpose::Reload, read) => self.reload(id, read),
            News::Read(Purpose::Check { why }, Ok(read)) => Some(self.check_config(id, &read, why, now)),
            News::Late(Purpose::Start, error) => Some(InstanceEvent::SpawnFailed(error)),
            News::Late(Purpose::Reload, error) => Some(InstanceEvent::ReloadFailed(error)),
            News::Read(Purpose::Check { .. }, Err(error)) | News::Late(Purpose::Check { .. }, error) => {
                Some(InstanceEvent::Checked(Answer::Refused, error.to_string()))
            }
            News::Read(..) | News::Late(..) => None,
        }
    }

    /// Takes in what was read, or done, for a vassal as a whole.
    fn take_in_for_vassal(
        &mut self,
        file: &Rc<VassalFile>,
        about: About,
        news: News,
        now: Instant,
    ) -> Option<Event> {
        match news {
            News::Slow => {
                // An instance that is to be created waits for it.
                for id in self.lacking(file) {
                    self.registry.apply_to(&id, InstanceEvent::ReadsSlowly, now);
                }
                None
            }
            News::Answers if about == About::Socket => {
                let is_backing_off = |state| matches!(state, State::Backoff { .. });
                let is_due = self.registry.vassal(file)?.has(is_backing_off);
                is_due.then_some(Event::Changed("its address answers by now"))
            }
            News::Answers if about == About::Text => None,
            News::Answers => Some(Event::Changed("its file can be read by now")),
            News::Read(Purpose::Compare, read) => {
                // Another owner's file is another one, whatever it says.
                let has_same_owner = |owner| self.handles.may_run(file, &self.spawner, owner);
                let read = read.ok().filter(|read| has_same_owner(read.owner));
                Some(Event::Compared(read.and_then(|read| read.text)))
            }
            News::Late(Purpose::Compare, _) => Some(Event::Compared(None)),
            News::Read(Purpose::Address { why }, read) => {
                let address = read.and_then(|read| on_demand::in_file(read.copy, file));
                Some(Event::Address { why, address })
            }
            News::Read(Purpose::Listen { address, starts }, read) => {
                self.listens(file, address, starts, read, now)
            }
            News::Late(Purpose::Listen { address, starts }, error) => {
                self.listens(file, address, starts, Err(error), now)
            }
            News::Read(Purpose::Look, read) => self.looked(file, read.ok()?.version.id()),
            News::Late(Purpose::Look, error) => {
                log_of!(file, "{error}; it stays as it is");
                None
            }
            News::Late(Purpose::Address { .. }, error) => Some(Event::AddressLate(error)),
            News::Read(..) | News::Late(..) => None,
        }
    }

    /// The instances of a vassal that are to be created.
    fn lacking(&self, file: &Rc<VassalFile>) -> Vec<InstanceId> {
        let all = self.registry.vassal(file).map(Vassal::instances).unwrap_or_default();
        let lacking = all.iter().filter(|instance| instance.lacks_process());
        lacking.map(|instance| InstanceId::new(file, instance.number())).collect()
    }

    /// Creates an instance; `None` if its on-demand socket has to be opened first.
    fn try_to_spawn(
        &mut self,
        id: &InstanceId,
        read: &ReadFile,
        now: Instant,
    ) -> Result<Option<(i32, Owner)>> {
        let file = &id.file;
        if !self.open_demand(file, true, now)? {
            return Ok(None);
        }
        if !self.handles.may_run(file, &self.spawner, read.owner) {
            // It would take their sockets away from those that run.
            if self.registry.vassal(file).is_some_and(Vassal::is_running) {
                // Whatever the group of the file is, as when its user has left that.
                let owner = Owner { gid: u32::MAX, ..read.owner };
                let event = Event::Touched("its file belongs to another owner now", Some(owner));
                self.registry.apply(file, event, now);
            }
            self.block(id, now);
            let event = InstanceEvent::Blocked("instances of the file's former owner are left");
            self.registry.apply_to(id, event, now);
            return Ok(None);
        }
        let is_one_of_several = self.registry.vassal(file).is_some_and(Vassal::is_set);
        let lends = self.handles.has_process(file);
        let spawn = |kept: &mut Kept| self.spawner.spawn(id, is_one_of_several, read, kept, lends);
        let process = self.handles.with_kept(file, spawn)?;
        if lends && self.registry.instance(id).is_some_and(|instance| instance.is_one_for_good()) {
            process.send(&ToVassal::TakesOver, None);
        }
        let created = (process.number(), process.owner);
        self.handles.add_process(id, process)?;
        Ok(Some(created))
    }

    fn listen(&mut self, file: &Rc<VassalFile>, now: Instant) -> Option<Event> {
        match self.open_demand(file, false, now) {
            Ok(true) => self.demand_of(file).map(|address| Event::Listening(address.name.clone())),
            Ok(false) => None,
            Err(error) => Some(Event::ListenFailed(error)),
        }
    }

    /// Opens the on-demand socket that a vassal must have, unless it is open already, and stops waiting for
    /// connections to an earlier one. Returns whether that is done: a reader listens at a path. `starts`
    /// means that an instance is about to be created.
    fn open_demand(&mut self, file: &Rc<VassalFile>, starts: bool, now: Instant) -> Result<bool> {
        self.is_ours(file)?;
        self.handles.close_left();
        self.handles.stop_polling(file);
        let address = self.demand_of(file).cloned();
        let has_none = self.handles.kept(file).is_none_or(|kept| kept.demand().is_none());
        let missing = u64::from(address.is_some() && has_none);
        let processes = self.handles.processes() + usize::from(starts);
        self.spawner.has_room(processes, self.handles.sockets() + missing)?;
        if listens_at(self.handles.kept(file), address.as_ref()) {
            return Ok(true);
        }
        let place = address.as_ref().map(|address| &address.place);
        self.handles.with_kept(file, |kept| kept.replace_demand(place));
        let Some(address) = address else { return Ok(true) };
        // The old socket may have had the same address.
        self.handles.close_left();
        if let Place::File(path) = &address.place {
            let path = path.clone();
            self.read(&InstanceId::new(file, FIRST), Some(path), Purpose::Listen { address, starts }, now);
            return Ok(false);
        }
        let socket = on_demand::open(&address)?.socket;
        self.handles.with_kept(file, |kept| kept.set_demand(address.place, socket, None));
        Ok(true)
    }

    /// Takes in the on-demand socket that a reader has opened.
    fn listens(
        &mut self,
        file: &Rc<VassalFile>,
        address: Address,
        starts: bool,
        read: Result<ReadFile>,
        now: Instant,
    ) -> Option<Event> {
        match read {
            Ok(ReadFile { version, copy, .. }) => {
                let (fd, there) = (copy?, Some(version.id()));
                self.handles.with_kept(file, |kept| kept.set_demand(address.place, fd, there));
                if starts {
                    for id in self.lacking(file) {
                        if let Some(event) = self.begin(&id, now) {
                            self.registry.apply_to(&id, event, now);
                        }
                    }
                    return None;
                }
                self.registry.vassal(file)?.is_waiting().then_some(Event::Listening(address.name))
            }
            Err(error) if starts => {
                for id in self.lacking(file) {
                    self.registry.apply_to(&id, InstanceEvent::SpawnFailed(error.clone()), now);
                }
                None
            }
            Err(error) => Some(Event::ListenFailed(error)),
        }
    }

    /// Takes in which file is at the path of an on-demand socket.
    fn looked(&mut self, file: &Rc<VassalFile>, there: FileId) -> Option<Event> {
        let why = self.handles.notice(file, there)?;
        let vassal = self.registry.vassal(file)?;
        // A restart would not bring clients back to an app that runs.
        if vassal.is_running() && why == TAKEN {
            log_of!(file, "{why}");
            return None;
        }
        // Without either, the next instance gets a new socket.
        (vassal.is_running() || vassal.is_waiting()).then_some(Event::Changed(why))
    }

    fn reload(&self, id: &InstanceId, read: Result<ReadFile>) -> Option<InstanceEvent> {
        let file = &id.file;
        // The instance may be ending by now.
        let State::Reloading { .. } = self.registry.instance(id)?.state() else { return None };
        let impossible = |why: &str| Some(InstanceEvent::ReloadImpossible(why.to_owned()));
        let kept = self.handles.kept(file);
        if !listens_at(kept, self.demand_of(file)) {
            return impossible(if kept.is_some_and(Kept::is_lost) {
                "nobody can connect to its on-demand socket any more"
            } else {
                "another on-demand address"
            });
        }
        let process = self.handles.process(id)?;
        match read {
            // A program can only be run by a fresh start, before there is a jail.
            Ok(ReadFile { copy: None, .. }) => impossible("its file is a program"),
            Ok(ReadFile { copy: Some(copy), owner, text, .. }) if self.spawner.may_run(process, owner) => {
                process.send(&ToVassal::Reload, Some(&copy));
                Some(InstanceEvent::ReloadSent(text))
            }
            Err(error) if !self.spawner.is_tyrant() => Some(InstanceEvent::ReloadFailed(error)),
            // The file may belong to another user, or to root, by now. The app must not continue with its
            // present owner then.
            Err(error) => impossible(&error.to_string()),
            Ok(ReadFile { owner: Owner { uid, gid }, .. }) => {
                impossible(&format!("its file belongs to user {uid}, group {gid} now"))
            }
        }
    }

    fn check_config(&mut self, id: &InstanceId, read: &ReadFile, why: String, now: Instant) -> InstanceEvent {
        if self.checks.hangs(id) {
            let why = "the process that has read it before for a check still hangs".to_owned();
            return InstanceEvent::Checked(Answer::Refused, why);
        }
        let processes = self.handles.processes() + self.checks.count() + 1;
        let room = self.spawner.has_room(processes, self.handles.sockets());
        match room.and_then(|()| self.checks.begin(&self.spawner, id, read, &why, now)) {
            Ok(()) => InstanceEvent::CheckBegun(config_check::TIMEOUT),
            Err(error) => InstanceEvent::CheckFailed { error, why },
        }
    }

    /// The address of a vassal's on-demand socket, if the vassal is on demand.
    fn demand_of(&self, file: &VassalFile) -> Option<&Address> {
        self.registry.vassal(file)?.on_demand()
    }
}

/// Whether the on-demand socket is the one that the vassal must have.
fn listens_at(kept: Option<&Kept>, address: Option<&Address>) -> bool {
    let wanted = address.map(|address| &address.place);
    wanted == kept.and_then(Kept::demand).map(|(place, _)| place) && !kept.is_some_and(Kept::is_lost)
}
