//! Carries out the effects of the registry.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use super::supervisor::Supervisor;
use crate::config::plan::Address;
use crate::emperor::commands::config_check;
use crate::emperor::core::effect::Effect;
use crate::emperor::core::event::Event;
use crate::emperor::core::file_version::FileId;
use crate::emperor::core::machine::{Answer, State};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::kept_sockets::{Kept, TAKEN};
use crate::emperor::instance::on_demand;
use crate::emperor::instance::readers::{About, News, Purpose, Told};
use crate::emperor::instance::spawner::ReadFile;
use crate::error::Result;
use crate::log_of;
use crate::place::Place;
use crate::protocol::{ToVassal, WaitStatus};

impl Supervisor {
    /// Carries out all effects that the registry has queued. The registry gets the result of an effect before
    /// the next effect is carried out.
    pub(super) fn run_effects(&mut self, now: Instant) {
        loop {
            let (file, event) = if let Some((file, effect)) = self.registry.next_effect() {
                let event = self.carry_out(&file, effect, now);
                (file, event)
            } else {
                self.readers.serve(&self.spawner, self.handles.as_fd(), now);
                let Some(Told { file, about, news }) = self.readers.take() else { return };
                if about == About::Own {
                    self.own_news.push((file, news));
                    continue;
                }
                let event = self.take_in(&file, about, news, now);
                (file, event)
            };
            if let Some(event) = event {
                self.registry.apply(&file, event, now);
            }
        }
    }

    /// Carries out one effect. Returns its result if that is known at once.
    fn carry_out(&mut self, file: &Rc<VassalFile>, effect: Effect, now: Instant) -> Option<Event> {
        match effect {
            Effect::Log(line) => log_of!(file, "{line}"),
            Effect::FindAddress { why } => return self.find_address(file, why, now),
            Effect::ForgetAddress => {
                self.questions.forget(file);
                self.readers.forget(file, About::Address);
            }
            Effect::Spawn => self.read(file, None, Purpose::Start, now),
            Effect::RunCommands => {
                if let Some(process) = self.handles.process(file) {
                    self.commands.begin(file, process, now);
                }
            }
            Effect::Listen => return self.listen(file, now),
            Effect::Poll => return self.handles.poll(file).err().map(Event::ListenFailed),
            Effect::CloseDemand => {
                self.readers.forget(file, About::Socket);
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
            Effect::Reload => self.read(file, None, Purpose::Reload, now),
            Effect::CheckConfig { why } => self.read(file, None, Purpose::Check { why }, now),
            Effect::ForgetFile => {
                self.checks.forget(file);
                self.readers.forget(file, About::File);
                self.readers.forget(file, About::Socket);
            }
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
                // Once it is killed, no mount table has the filesystems that it mounted since its last
                // message.
                self.handles.note_fuse(file, &self.fusectl);
                if let Some(process) = self.handles.process(file) {
                    if !process.kill() {
                        log_of!(file, "pid {} is gone, reaped by another program", process.number());
                        return self.release(file, WaitStatus::Signaled(libc::SIGKILL));
                    }
                    self.freeing.killed(process, file);
                }
            }
            Effect::Remove => {
                for about in [About::File, About::Address, About::Socket] {
                    self.readers.forget(file, about);
                }
                self.handles.remove(file);
            }
        }
        None
    }

    /// Has the file of a vassal read, or something done with another path of the vassal's.
    pub(super) fn read(
        &mut self,
        file: &Rc<VassalFile>,
        other: Option<PathBuf>,
        purpose: Purpose,
        now: Instant,
    ) {
        let user = self.registry.vassal(file).and_then(Vassal::user);
        self.readers.ask(file, user, other, purpose, now);
    }

    /// Finds out the address of a vassal's on-demand socket. If a command or a file must be asked, the answer
    /// comes later.
    fn find_address(&mut self, file: &Rc<VassalFile>, why: String, now: Instant) -> Option<Event> {
        if self.questions.ask(file, &why, now) {
            self.take_replies(now);
            return None;
        }
        if let address_file @ Some(_) = self.spawner.address_file(file) {
            self.read(file, address_file, Purpose::Address { why }, now);
            return None;
        }
        Some(Event::Address { why, address: Ok(self.spawner.demand(file)) })
    }

    /// Takes in the result of a reading.
    fn take_in(&mut self, file: &Rc<VassalFile>, about: About, news: News, now: Instant) -> Option<Event> {
        if let News::Read(Purpose::Start | Purpose::Reload | Purpose::Check { .. }, Ok(read)) = &news {
            self.registry.apply(file, Event::Reading(read.version), now);
        }
        match news {
            News::Slow => Some(Event::ReadsSlowly),
            News::Answers if about == About::Socket => {
                let state = self.registry.vassal(file)?.state();
                matches!(state, State::Backoff { .. }).then_some(Event::Changed("its address answers by now"))
            }
            News::Answers => Some(Event::Changed("its file can be read by now")),
            News::Read(Purpose::Start, read) => {
                match read.and_then(|read| self.try_to_spawn(file, &read, now)).transpose()? {
                    Ok((pid, owner)) => Some(Event::Spawned { pid, owner }),
                    Err(error) => Some(Event::SpawnFailed(error)),
                }
            }
            News::Read(Purpose::Reload, read) => self.reload(file, read),
            News::Read(Purpose::Check { why }, Ok(read)) => Some(self.check_config(file, &read, why, now)),
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
            News::Read(Purpose::Own(_), _) | News::Late(Purpose::Own(_), _) => None,
            News::Late(Purpose::Address { .. }, error) => Some(Event::AddressLate(error)),
            News::Late(Purpose::Start, error) => Some(Event::SpawnFailed(error)),
            News::Late(Purpose::Reload, error) => Some(Event::ReloadFailed(error)),
            News::Read(Purpose::Check { .. }, Err(error)) | News::Late(Purpose::Check { .. }, error) => {
                Some(Event::Checked(Answer::Refused, error.to_string()))
            }
        }
    }

    /// Creates an instance; `None` if its on-demand socket has to be opened first.
    fn try_to_spawn(
        &mut self,
        file: &Rc<VassalFile>,
        read: &ReadFile,
        now: Instant,
    ) -> Result<Option<(i32, Owner)>> {
        if !self.open_demand(file, true, now)? {
            return Ok(None);
        }
        let process = self.handles.with_kept(file, |kept| self.spawner.spawn(file, read, kept))?;
        let created = (process.number(), process.owner);
        self.handles.add_process(file, process)?;
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
        let (operation, object) = if starts { ("create", "a process") } else { ("wait for", "a connection") };
        let processes = self.handles.processes() + usize::from(starts);
        self.spawner.has_room(operation, object, processes, self.handles.sockets() + missing)?;
        let listens = |kept: &mut Kept| listens_at(kept, address.as_ref());
        if self.handles.with_kept(file, listens) {
            return Ok(true);
        }
        let place = address.as_ref().map(|address| &address.place);
        self.handles.with_kept(file, |kept| kept.replace_demand(place));
        let Some(address) = address else { return Ok(true) };
        // The old socket may have had the same address.
        self.handles.close_left();
        if let Place::File(path) = &address.place {
            let path = path.clone();
            self.read(file, Some(path), Purpose::Listen { address, starts }, now);
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
                    self.read(file, None, Purpose::Start, now);
                    return None;
                }
                let is_waiting = self.registry.vassal(file)?.state() == State::Waiting;
                is_waiting.then_some(Event::Listening(address.name))
            }
            Err(error) if starts => Some(Event::SpawnFailed(error)),
            Err(error) => Some(Event::ListenFailed(error)),
        }
    }

    /// Takes in which file is at the path of an on-demand socket.
    fn looked(&mut self, file: &Rc<VassalFile>, there: FileId) -> Option<Event> {
        let why = self.handles.notice(file, there)?;
        match self.registry.vassal(file)?.state() {
            // A restart would not bring clients back to an app that runs.
            State::Running { .. } if why == TAKEN => {
                log_of!(file, "{why}");
                None
            }
            State::Running { .. } | State::Waiting => Some(Event::Changed(why)),
            // The next instance gets a new socket.
            _ => None,
        }
    }

    fn reload(&self, file: &VassalFile, read: Result<ReadFile>) -> Option<Event> {
        // The instance may be ending by now.
        let State::Reloading { .. } = self.registry.vassal(file)?.state() else { return None };
        let impossible = |why: &str| Some(Event::ReloadImpossible(why.to_owned()));
        let kept = self.handles.kept(file)?;
        if !listens_at(kept, self.demand_of(file)) {
            return impossible(if kept.is_lost() {
                "nobody can connect to its on-demand socket any more"
            } else {
                "another on-demand address"
            });
        }
        let process = self.handles.process(file)?;
        match read {
            // A program can only be run by a fresh start, before there is a jail.
            Ok(ReadFile { copy: None, .. }) => impossible("its file is a program"),
            Ok(ReadFile { copy: Some(copy), owner, .. }) if self.spawner.may_run(process, owner) => {
                process.send(&ToVassal::Reload, Some(&copy));
                Some(Event::ReloadSent)
            }
            Err(error) if !self.spawner.is_tyrant() => Some(Event::ReloadFailed(error)),
            // The file may belong to another user, or to root, by now. The app must not continue with its
            // present owner then.
            Err(error) => impossible(&error.to_string()),
            Ok(ReadFile { owner: Owner { uid, gid }, .. }) => {
                impossible(&format!("its file belongs to user {uid}, group {gid} now"))
            }
        }
    }

    fn check_config(&mut self, file: &Rc<VassalFile>, read: &ReadFile, why: String, now: Instant) -> Event {
        let processes = self.handles.processes() + self.checks.count() + 1;
        let room = self.spawner.has_room("create", "a process", processes, self.handles.sockets());
        match room.and_then(|()| self.checks.begin(&self.spawner, file, read, &why, now)) {
            Ok(()) => Event::CheckBegun(config_check::TIMEOUT),
            Err(error) => Event::CheckFailed { error, why },
        }
    }

    /// The address of a vassal's on-demand socket, if the vassal is on demand.
    fn demand_of(&self, file: &VassalFile) -> Option<&Address> {
        self.registry.vassal(file)?.on_demand()
    }
}

/// Whether the on-demand socket is the one that the vassal must have.
fn listens_at(kept: &Kept, address: Option<&Address>) -> bool {
    let wanted = address.map(|address| &address.place);
    wanted == kept.demand().map(|(place, _)| place) && !kept.is_lost()
}
