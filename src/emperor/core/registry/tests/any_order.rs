//! Many vassals get any events in any order. After each event all effects are carried out, with any outcome,
//! and then the facts in the registry must fit together. Now and then another program takes over, by bytes;
//! and now and then all goes well, whereupon all must run as their files say.

use super::*;

#[test]
fn whatever_happens_in_whatever_order_fits_together() {
    for seed in SEEDS {
        Play::new(seed, false).run();
    }
}

#[test]
fn whatever_happens_to_the_files_of_users_fits_together() {
    for seed in SEEDS {
        Play::new(seed, true).run();
    }
}

/// Where numbers begin.
const SEEDS: [u64; 8] = [1, 3, 5, 9, 22, 1001, 1006, 1023];
/// How many events there are, and after how many of them all goes well.
const EVENTS: u64 = 40_000;
const UNTIL_CALM: u64 = 2000;

/// A file, which may be that of a vassal.
struct TestFile {
    path: Rc<VassalFile>,
    /// No two files ever say the same.
    version: i64,
    owner: Owner,
    /// Whether the registry was told that it is there, and not that it is gone.
    is_told: bool,
}

/// A process, with the versions of the file that it has read.
struct TestProcess {
    id: InstanceId,
    owner: Owner,
    versions: Vec<i64>,
}

/// A story, with the part of the supervisor.
struct Play {
    story: Story,
    random: Random,
    /// Whether files belong to users.
    is_tyrant: bool,
    files: Vec<TestFile>,
    last_version: i64,
    processes: Vec<TestProcess>,
    /// The instances whose file is being read for a start.
    readings: Vec<InstanceId>,
    /// Those that wait for the end of processes of another owner.
    blocked: Vec<InstanceId>,
    /// Those whose new configuration is being read by another process.
    checks: Vec<InstanceId>,
    /// The files whose address is asked for, and why.
    asked: Vec<(Rc<VassalFile>, String)>,
    /// Whether all goes well.
    is_calm: bool,
}

/// What a version of a file says of replicas.
fn replication(version: i64) -> Replication {
    Replication {
        replicas: 1 + version as u16 % 3,
        is_rolling: version % 4 > 0,
        ready_after: Duration::from_secs(version as u64 % 3),
        ready_timeout: Duration::from_secs(version as u64 % 30),
        says_ready: version % 5 == 0,
    }
}

/// As whom the owner of a file has processes: one of the users is not in one of the groups.
fn identity(owner: Owner) -> Owner {
    if owner == (Owner { uid: 7, gid: 9 }) { OWNER } else { owner }
}

impl Play {
    fn new(seed: u64, is_tyrant: bool) -> Self {
        let mut story = Story::with_starts(1);
        story.registry.rules.checks_config = !is_tyrant;
        let paths = ["a", "b", "/w/a.ini", "c"].into_iter().enumerate();
        let all = paths.map(|(index, name)| TestFile {
            path: file(name),
            version: index as i64,
            owner: OWNER,
            is_told: false,
        });
        Self {
            story,
            random: Random(seed),
            is_tyrant,
            files: all.collect(),
            last_version: 3,
            processes: Vec::new(),
            readings: Vec::new(),
            blocked: Vec::new(),
            checks: Vec::new(),
            asked: Vec::new(),
            is_calm: false,
        }
    }

    fn run(&mut self) {
        for count in 1..=EVENTS {
            self.story.now += Duration::from_millis(self.random.below(3000));
            self.happen();
            self.carry_out();
            self.check();
            if count % UNTIL_CALM == 0 {
                self.calm_down();
            }
        }
        assert_eq!(self.story.registry.given_up(), 0);
    }

    /// The index of any file.
    fn any(&mut self) -> usize {
        self.random.below(self.files.len() as u64) as usize
    }

    fn file_of(&self, path: &VassalFile) -> &TestFile {
        self.files.iter().find(|file| *file.path == *path).unwrap()
    }

    /// The version of a file, as a scan or a reader sees it.
    fn version(&self, path: &VassalFile) -> FileVersion {
        let file = self.file_of(path);
        let owner = self.is_tyrant.then_some(file.owner);
        FileVersion { modified: file.version, device: 1, inode: 1, owner, ..FileVersion::default() }
    }

    fn user(&self, path: &VassalFile) -> Option<u32> {
        self.is_tyrant.then_some(self.file_of(path).owner.uid)
    }

    /// Writes a file anew, and may give it to another owner.
    fn write(&mut self, index: usize) {
        self.last_version += 1;
        self.files[index].version = self.last_version;
        if self.random.below(4) == 0 {
            let owner = Owner { uid: 7 + self.random.below(2) as u32, gid: 8 + self.random.below(2) as u32 };
            self.files[index].owner = owner;
        }
    }

    fn apply(&mut self, path: &Rc<VassalFile>, event: Event) {
        self.story.registry.apply(path, event, self.story.now);
    }

    fn apply_to(&mut self, id: &InstanceId, event: InstanceEvent) {
        self.story.registry.apply_to(id, event, self.story.now);
    }

    /// What a scan tells of a file.
    fn scanned(&mut self, path: &Rc<VassalFile>, event: Event) {
        self.apply(path, event);
        self.carry_out();
        let version = self.version(path);
        self.apply(path, Event::Seen(version));
    }

    /// Any event.
    fn happen(&mut self) {
        let (index, other) = (self.any(), self.any());
        let path = Rc::clone(&self.files[index].path);
        let its: Vec<_> =
            self.processes.iter().map(|it| &it.id).filter(|id| id.file == path).cloned().collect();
        let process = its.get(self.random.below(its.len().max(1) as u64) as usize).cloned();
        let reading = self.readings.iter().find(|id| id.file == path).cloned();
        let (version, owner) = (Some(self.version(&path)), self.user(&path));
        match (self.random.below(18), process, reading) {
            (16, _, Some(id)) if self.random.below(2) == 0 => self.apply_to(&id, InstanceEvent::ReadsSlowly),
            (16, _, Some(id)) => self.read(&id),
            (17, ..) => self.rarely(&path),
            (0, ..) => {
                self.files[index].is_told = true;
                let found = Event::Found { version, has_old_address: self.random.below(9) == 0, owner };
                self.scanned(&path, found);
            }
            (1, ..) => {
                self.write(index);
                // Somebody may read it before a scan sees it.
                if self.random.below(3) > 0 {
                    let owner = self.is_tyrant.then_some(self.files[index].owner);
                    self.scanned(&path, Event::Touched("file changed", owner));
                }
            }
            (2, ..) => {
                self.files[index].is_told = false;
                self.apply(&path, Event::Removed("file removed"));
            }
            (3, ..) => self.order((Order::Stop, self.story.next_pid % 2 == 0), &path),
            (4, ..) => self.order((Order::Start, false), &path),
            (5, ..) => self.order((Order::Reload, false), &path),
            (6, ..) => self.apply(&path, Event::Connected),
            (7, ..) if index != other => {
                let from = Rc::clone(&self.files[other].path);
                (self.files[index].version, self.files[index].owner) =
                    (self.files[other].version, self.files[other].owner);
                self.write(other);
                (self.files[index].is_told, self.files[other].is_told) = (true, false);
                let version = FileVersion { inode: self.random.below(3), ..self.version(&path) };
                let owner = self.user(&path);
                self.scanned(&path, Event::Renamed { from, version, owner });
            }
            (8, Some(id), _) => self.die(&id),
            (9.., Some(id), _) => self.say(&id),
            _ => {
                let is_frozen = self.random.below(4) == 0;
                let is_at_work = self.random.below(4) == 0;
                // What has no process is about to get one.
                let is_at_work =
                    |id: &InstanceId| is_at_work || !self.processes.iter().any(|it| it.id == *id);
                self.story.registry.time(self.story.now, &|_| is_frozen, &is_at_work);
            }
        }
    }

    /// Any event that is rare.
    fn rarely(&mut self, path: &Rc<VassalFile>) {
        match self.random.below(60) {
            0 => self.story.registry.clear_backoffs(self.story.now),
            1 => drop(self.story.registry.roll_all(self.story.now)),
            2 => self.story.registry.unclaim(&[Rc::clone(path)]),
            3 => self.story.registry.reload_all(),
            4..10 => self.upgrade(),
            10..20 => self.unblock(),
            20..30 => self.answer(),
            _ => {
                let answer = if self.random.below(2) == 0 { Answer::Refused } else { Answer::NeedsRespawn };
                self.checked(answer);
            }
        }
    }

    fn order(&mut self, order: (Order, bool), path: &VassalFile) {
        drop(self.story.registry.handle_order(order, path.name(), self.story.now));
    }

    fn unblock(&mut self) {
        for id in std::mem::take(&mut self.blocked) {
            self.apply_to(&id, InstanceEvent::Unblocked);
        }
    }

    /// The configurations were read that were to be checked.
    fn checked(&mut self, answer: Answer) {
        for id in std::mem::take(&mut self.checks) {
            self.apply_to(&id, InstanceEvent::Checked(answer, "why".to_owned()));
        }
    }

    /// The addresses are known that were asked for, or are not found out.
    fn answer(&mut self) {
        for (path, why) in std::mem::take(&mut self.asked) {
            let event = match self.random.below(6) {
                // A user's app would go on for another one until then.
                0 if !self.is_calm && !self.is_tyrant => {
                    // It will be told once more when the address is known.
                    self.files.iter_mut().filter(|it| it.path == path).for_each(|it| it.is_told = false);
                    Event::AddressLate(failed("ask"))
                }
                1 if !self.is_calm => Event::Address { why, address: Err(failed("ask")) },
                2..4 if !self.is_calm => Event::Address { why, address: Ok(Some(address("/run/x"))) },
                _ => Event::Address { why, address: Ok(None) },
            };
            self.apply(&path, event);
        }
    }

    fn die(&mut self, id: &InstanceId) {
        self.processes.retain(|other| other.id != *id);
        let status = WaitStatus::Exited(if self.random.below(4) == 0 { 78 } else { 1 });
        self.apply_to(id, InstanceEvent::Died { status, out_of_memory: false });
    }

    /// What a process has read last.
    fn used(&self, id: &InstanceId) -> i64 {
        *self.processes.iter().find(|it| it.id == *id).unwrap().versions.last().unwrap()
    }

    /// The PID 1 of an instance says anything, but does not answer before it was asked.
    fn say(&mut self, id: &InstanceId) {
        let is_unasked = |it: &Instance| {
            it.is_reloading() && it.process().is_some_and(|process| process.asked_to_reload.is_none())
        };
        let is_unasked = self.story.registry.instance(id).is_some_and(is_unasked);
        let says = FromVassal::Replication(replication(self.used(id)));
        let message = match self.random.below(16) {
            5 | 6 | 13 if is_unasked => says,
            0..4 => {
                if self.random.below(2) == 0 {
                    self.apply_to(id, InstanceEvent::Said(says));
                }
                FromVassal::Running
            }
            4 => FromVassal::Stopping(Duration::from_secs(self.random.below(3))),
            5 => FromVassal::Reloaded,
            6 => FromVassal::NeedsRespawn("why".to_owned()),
            7 => FromVassal::Announced(Announcement::Heartbeat),
            8 => FromVassal::Announced(Announcement::Leave),
            9 => says,
            10 => FromVassal::Announced(Announcement::Ready),
            11 => FromVassal::Announced(Announcement::Stuck),
            12 => FromVassal::Unready,
            13 => FromVassal::Refused("why".to_owned()),
            14 => FromVassal::Exiting(match self.random.below(3) {
                0 => ExitReason::Config("a.ini:1: no".to_owned()),
                1 => ExitReason::MountLost("/mnt".to_owned()),
                _ => ExitReason::App(WaitStatus::Exited(0)),
            }),
            _ => return self.apply_to(id, InstanceEvent::LinkClosed(None)),
        };
        self.apply_to(id, InstanceEvent::Said(message));
    }

    /// The file of an instance was read for its start.
    fn read(&mut self, id: &InstanceId) {
        self.readings.retain(|other| other != id);
        if !self.is_calm && self.random.below(3) == 0 {
            return self.apply_to(id, InstanceEvent::SpawnFailed(failed("read")));
        }
        let version = self.version(&id.file);
        self.apply(&id.file, Event::Reading(version));
        self.create(id, None);
    }

    /// Creates a process, with the file that was just read, or with what has proven itself.
    fn create(&mut self, id: &InstanceId, proven: Option<Proven>) {
        let file = self.file_of(&id.file);
        let (owner, version) = match &proven {
            Some(proven) => (proven.owner, proven.file.modified),
            None => (identity(file.owner), file.version),
        };
        let is_other = |it: &TestProcess| it.id.file == id.file && it.owner != owner;
        if self.is_tyrant && self.processes.iter().any(is_other) {
            if self.story.registry.vassal(&id.file).is_some_and(Vassal::is_running) {
                let owner = Owner { gid: u32::MAX, ..owner };
                let event = Event::Touched("its file belongs to another owner now", Some(owner));
                self.apply(&id.file, event);
            }
            self.blocked.push(id.clone());
            return self.apply_to(id, InstanceEvent::Blocked("others are left"));
        }
        assert!(!self.processes.iter().any(|it| it.id == *id), "a second process");
        self.story.next_pid += 1;
        let (pid, is_of_before) = (self.story.next_pid, proven.is_some());
        let text = (!is_of_before).then_some(version as u64 % 2);
        let spawned = InstanceEvent::Spawned { pid, owner, text, is_of_before };
        self.processes.push(TestProcess { id: id.clone(), owner, versions: vec![version] });
        self.apply_to(id, spawned);
        if !is_of_before && replication(version).is_rolling {
            // Others may read a newer file before this one says what it was made of.
            if !self.is_calm && self.random.below(4) == 0 {
                self.last_version += 1;
                let newer = FileVersion { modified: self.last_version, ..self.version(&id.file) };
                let read = self.files.iter_mut().find(|it| it.path == id.file).unwrap();
                read.version = newer.modified;
                self.apply(&id.file, Event::Reading(newer));
            }
            self.apply_to(id, InstanceEvent::Transcript(text_of(&id.file, owner, version)));
        }
    }

    /// The file of an instance was read for a reload.
    fn reload(&mut self, id: &InstanceId) {
        let file = self.file_of(&id.file);
        let (owner, version) = (identity(file.owner), file.version);
        let at = self.processes.iter().position(|it| it.id == *id).unwrap();
        let seen = self.version(&id.file);
        self.apply(&id.file, Event::Reading(seen));
        if !self.story.registry.instance(id).is_some_and(|it| matches!(it.state(), State::Reloading { .. })) {
            return;
        }
        let is_own = !self.is_tyrant || self.processes[at].owner == owner;
        let event = match self.random.below(6) {
            _ if !is_own => InstanceEvent::ReloadImpossible("another owner".to_owned()),
            0 if !self.is_calm && !self.is_tyrant => InstanceEvent::ReloadFailed(failed("it")),
            1 if !self.is_calm => InstanceEvent::ReloadImpossible("why".to_owned()),
            _ => {
                self.processes[at].versions.push(version);
                InstanceEvent::ReloadSent(Some(version as u64 % 2))
            }
        };
        self.apply_to(id, event);
    }

    /// Another program takes over, once nothing is half done.
    fn upgrade(&mut self) {
        self.carry_out();
        while !self.readings.is_empty() || !self.asked.is_empty() {
            self.answer();
            self.carry_out();
            if let Some(id) = self.readings.first().cloned() {
                self.read(&id);
                self.carry_out();
            }
        }
        if self.story.registry.is_renaming() || self.story.registry.is_checking() {
            return;
        }
        self.story.upgrade();
        // A scan tells of the others once more.
        for file in &mut self.files {
            file.is_told &= self.story.registry.vassal(&file.path).is_some();
        }
        self.blocked.clear();
        self.checks.clear();
        self.carry_out();
        self.story.registry.time(self.story.now, &|_| false, &|_| true);
    }

    /// Plays the part of the supervisor.
    fn carry_out(&mut self) {
        let mut count = 0;
        while let Some(decision) = self.story.registry.next_decision() {
            count += 1;
            assert!(count < 1000, "effects without an end: {decision:?}");
            match decision {
                Decision::Log { .. } => {}
                Decision::OfVassal(path, effect) => self.carry_out_for(&path, effect),
                Decision::OfInstance(id, effect) => self.carry_out_for_one(&id, effect),
            }
        }
    }

    fn carry_out_for(&mut self, path: &Rc<VassalFile>, effect: Effect) {
        let is_lucky = self.is_calm || self.random.below(3) > 0;
        let has_process = |path: &VassalFile| self.processes.iter().any(|it| *it.id.file == *path);
        let event = match effect {
            Effect::FindAddress { why } => {
                self.asked.retain(|(other, _)| other != path);
                if !self.is_calm && self.random.below(3) == 0 {
                    return self.asked.push((Rc::clone(path), why));
                }
                let is_on_demand = !self.is_calm && self.random.below(2) == 0;
                Event::Address { why, address: Ok(is_on_demand.then(|| address("/run/x"))) }
            }
            Effect::Compare => {
                assert!(has_process(path), "nobody to compare with");
                let file = self.file_of(path);
                let is_own = |it: &TestProcess| it.id.file != *path || it.owner == identity(file.owner);
                let can_tell = is_lucky && (!self.is_tyrant || self.processes.iter().all(is_own));
                Event::Compared(can_tell.then_some(file.version as u64 % 2))
            }
            Effect::Listen if is_lucky => Event::Listening("/run/x".to_owned()),
            Effect::Listen => Event::ListenFailed(failed("it")),
            Effect::Remove => {
                assert!(!has_process(path), "removed with a process");
                return self.asked.retain(|(other, _)| other != path);
            }
            Effect::HandOverSockets { to } => {
                let is_parked = to.ends_with("moved");
                let has_vassal = self.story.registry.vassal(&to).is_some();
                assert!(is_parked || has_vassal, "sockets for no vassal");
                return assert!(!has_process(&to), "too late");
            }
            Effect::CloseSockets { .. } => return assert!(!has_process(path), "sockets in use are closed"),
            Effect::ForgetAddress => return self.asked.retain(|(other, _)| other != path),
            Effect::Poll | Effect::ForgetSocket | Effect::CloseDemand => return,
        };
        self.apply(path, event);
    }

    fn carry_out_for_one(&mut self, id: &InstanceId, effect: InstanceEffect) {
        let is_lucky = self.is_calm || self.random.below(3) > 0;
        let event = match effect {
            InstanceEffect::Spawn => {
                self.readings.retain(|other| other != id);
                self.blocked.retain(|other| other != id);
                let proven = self.story.registry.proven(id).cloned();
                if proven.is_none() && self.random.below(3) == 0 {
                    return self.readings.push(id.clone());
                }
                if !is_lucky {
                    let error = Error::os("create", "process", Errno::AGAIN);
                    return self.apply_to(id, InstanceEvent::SpawnFailed(error));
                }
                if proven.is_none() {
                    let version = self.version(&id.file);
                    self.apply(&id.file, Event::Reading(version));
                }
                return self.create(id, proven);
            }
            InstanceEffect::ForgetFile => {
                self.checks.retain(|other| other != id);
                return self.readings.retain(|other| other != id);
            }
            InstanceEffect::Reload => return self.reload(id),
            InstanceEffect::CheckConfig { .. } if is_lucky => {
                self.checks.push(id.clone());
                InstanceEvent::CheckBegun(Duration::from_secs(11))
            }
            InstanceEffect::CheckConfig { why } => InstanceEvent::CheckFailed { error: failed("it"), why },
            InstanceEffect::Look => InstanceEvent::Waits(is_lucky.then(|| "/x".to_owned())),
            InstanceEffect::TakeOver
            | InstanceEffect::GiveUp
            | InstanceEffect::AskToStop
            | InstanceEffect::KillApp
            | InstanceEffect::Kill
            | InstanceEffect::RunCommands => {
                return assert!(self.processes.iter().any(|it| it.id == *id), "{effect:?} for no process");
            }
        };
        self.apply_to(id, event);
    }

    /// Whether the facts fit together.
    fn check(&mut self) {
        let (mut lacking, mut refused) = (Vec::new(), 0);
        for (path, vassal) in self.story.registry.vassals() {
            for instance in vassal.instances() {
                let id = InstanceId::new(path, instance.number());
                let process = self.processes.iter().find(|it| it.id == id);
                let (state, is_up) = (instance.state(), process.is_some());
                let wants_process = matches!(
                    state,
                    State::Starting { .. }
                        | State::Running { .. }
                        | State::Reloading { .. }
                        | State::Stopping { .. }
                );
                let (has_process, lacks) = (instance.process().is_some(), instance.lacks_process());
                assert_eq!((wants_process && !lacks, has_process), (is_up, is_up), "{state:?}");
                if lacks {
                    lacking.push(id);
                }
                assert!(!instance.is_refused || lacks || matches!(state, State::Backoff { .. }), "{state:?}");
                refused += u64::from(instance.is_refused);
                if let (Some(process), Some(facts)) = (process, instance.process()) {
                    check_process(process, facts);
                    let is_known = vassal.owner.is_none_or(|uid| uid == facts.owner.uid)
                        || vassal.file_version.owner == facts.file.owner
                        || vassal.is_unclaimed;
                    let ends = matches!(state, State::Stopping { .. } | State::Reloading { .. });
                    assert!(is_known || ends || vassal.is_asking, "{state:?} for another user");
                }
            }
            check_proven(path, vassal);
            let mut numbers: Vec<_> = vassal.instances().iter().map(Instance::number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            // At most one more than are wanted, or than were there before fewer were wanted.
            assert!((1..=8).contains(&numbers.len()) && numbers.len() == vassal.instances().len());
            assert_eq!(self.story.registry.names.get(path.name()), Some(path));
        }
        for file in self.files.iter().filter(|file| file.is_told) {
            let registry = &self.story.registry;
            let waits = registry.held_back.iter().any(|(path, _)| *path == file.path)
                || registry.renamed.iter().any(|renamed| renamed.to == file.path);
            let has_name = registry.names.get(file.path.name()).is_some();
            assert!(waits || has_name, "{} is forgotten", file.path.display());
        }
        assert_eq!(self.story.registry.refusals.count, refused, "the next refusal would never be told");
        for Renamed { from, to, parked, .. } in &self.story.registry.renamed {
            let waits_for = if parked.is_some() { to } else { from };
            assert!(self.story.registry.vassal(waits_for).is_some(), "a new name waits for ever");
        }
        let Registry { starts, rolls, .. } = &self.story.registry;
        let deadlines = deadlines(&self.story).chain(starts.deadline()).chain(rolls.deadline());
        let (said, deadline) = (self.story.registry.deadline(), deadlines.min());
        // The time at which an app became ready is over by now, and was not noticed yet.
        assert!(said == deadline || said.is_some_and(|at| at <= self.story.now), "{said:?}, {deadline:?}");
        let far = self.story.now + Duration::from_secs(100);
        let awaits_check = |state| matches!(state, State::Reloading { answer_by, .. } if answer_by > far);
        self.blocked.retain(|id| lacking.contains(id));
        let is_read = |id: &&InstanceId| self.readings.contains(id);
        let waits = lacking.iter().any(|id| !is_read(&id) && !self.blocked.contains(id))
            || self.story.registry.vassals().any(|(_, vassal)| vassal.has(awaits_check));
        let has_turns = starts.deadline().is_some();
        assert!(!waits || has_turns, "somebody would wait for ever");
        // One that was blocked may have been told to start once more; and what waits to be checked may have
        // said meanwhile that it refuses the file.
        let is_checked = |vassal: &Vassal| vassal.instances.iter().any(|it| it.check.is_some());
        let may_wait = waits
            || lacking.iter().any(|id| !is_read(&id))
            || self.story.registry.vassals().any(|(_, vassal)| is_checked(vassal));
        assert!(may_wait || !has_turns, "a turn for nobody: {starts:?}");
        let exists = |id| self.story.registry.instance(id).is_some();
        assert!(self.processes.iter().all(|it| exists(&it.id)), "a process of nobody");
        assert!(self.readings.iter().all(|id| lacking.contains(id)), "a file is read in vain");
    }

    /// From now on no app fails, and all files are good. All that is to run must do so before long, with the
    /// files as they are.
    fn calm_down(&mut self) {
        self.is_calm = true;
        self.answer();
        self.carry_out();
        for index in 0..self.files.len() {
            while replication(self.files[index].version).ready_timeout < Duration::from_secs(20) {
                self.write(index);
            }
        }
        for path in self.files.iter().map(|file| Rc::clone(&file.path)).collect::<Vec<_>>() {
            self.order((Order::Start, false), &path);
            self.carry_out();
            let owner = self.is_tyrant.then_some(self.file_of(&path).owner);
            if self.story.registry.vassal(&path).is_some() {
                self.apply(&path, Event::Touched("file changed", owner));
                self.carry_out();
                self.apply(&path, Event::Changed("file changed"));
                self.carry_out();
            }
        }
        for _ in 0..1000 {
            if self.is_settled().is_ok() {
                self.is_calm = false;
                return;
            }
            self.go_well();
            self.check();
        }
        let all = self.story.registry.statuses(self.story.now);
        let all: Vec<_> = all.iter().map(|status| format!("{}: {}", status.name, status.line())).collect();
        panic!("{}: {all:#?}", self.is_settled().unwrap_err());
    }

    /// A second in which all goes well.
    fn go_well(&mut self) {
        self.story.now += Duration::from_secs(1);
        self.story.registry.time(self.story.now, &|_| false, &|_| true);
        self.carry_out();
        self.unblock();
        self.carry_out();
        self.checked(Answer::NeedsRespawn);
        self.carry_out();
        // Also what has another name by now.
        for path in self.files.iter().map(|file| Rc::clone(&file.path)).collect::<Vec<_>>() {
            if self.story.registry.vassal(&path).is_some_and(Vassal::is_held) {
                self.order((Order::Start, false), &path);
                self.carry_out();
            }
        }
        while let Some(id) = self.readings.first().cloned() {
            self.read(&id);
            self.carry_out();
        }
        for id in self.processes.iter().map(|it| it.id.clone()).collect::<Vec<_>>() {
            let Some(instance) = self.story.registry.instance(&id) else { continue };
            let Some(process) = instance.process() else { continue };
            let state = instance.state();
            let (is_ready, is_unready) = (process.said.ready.is_some(), instance.is_unready);
            let ready = FromVassal::Announced(Announcement::Ready);
            let says = FromVassal::Replication(replication(self.used(&id)));
            let messages = match state {
                State::Starting { .. } => vec![says, FromVassal::Running, ready],
                State::Reloading { .. } if process.asked_to_reload.is_none() => Vec::new(),
                State::Reloading { .. } if instance.check.is_some() => Vec::new(),
                State::Reloading { .. } => vec![says, FromVassal::Reloaded, ready],
                State::Stopping { .. } => {
                    self.processes.retain(|other| other.id != id);
                    let status = WaitStatus::Exited(0);
                    self.apply_to(&id, InstanceEvent::Died { status, out_of_memory: false });
                    Vec::new()
                }
                _ if is_ready && !is_unready => vec![FromVassal::Announced(Announcement::Heartbeat)],
                _ => vec![ready],
            };
            self.carry_out();
            for message in messages {
                // An effect may have ended it.
                if self.processes.iter().any(|it| it.id == id) {
                    self.apply_to(&id, InstanceEvent::Said(message));
                    self.carry_out();
                }
            }
        }
    }

    /// Whether all vassals run as their files say.
    fn is_settled(&self) -> Result<(), String> {
        for (path, vassal) in self.story.registry.vassals() {
            let (file, name) = (self.file_of(path), path.shown());
            let wanted = replication(file.version);
            for instance in &vassal.instances {
                let facts = instance.process().filter(|_| matches!(instance.state(), State::Running { .. }));
                let facts = facts.ok_or_else(|| format!("{name} does not run: {:?}", instance.state()))?;
                if instance.is_old || instance.is_on_trial || instance.is_unready || instance.is_unproven {
                    return Err(format!("{name} is old, on trial, not ready or not proven"));
                }
                if facts.file.modified != file.version
                    || self.is_tyrant && facts.owner != identity(file.owner)
                {
                    return Err(format!("{name} runs with another file"));
                }
            }
            let count = vassal.instances.len();
            if vassal.replication != wanted || count > wanted.replicas.into() {
                return Err(format!("{name} has {count}, {:?}, not {wanted:?}", vassal.replication));
            }
            if !self.is_tyrant && count < wanted.replicas.into() || vassal.refused.is_some() {
                return Err(format!("{name} has {count} of {wanted:?}, {:?}", vassal.refused));
            }
        }
        match self.story.registry.rolls.deadline() {
            None => Ok(()),
            Some(_) => Err("somebody waits to replace instances".to_owned()),
        }
    }
}

/// What a process says that its configuration was made of.
fn text_of(path: &VassalFile, owner: Owner, version: i64) -> Vec<u8> {
    format!("{} {owner:?} {version}", path.display()).into()
}

/// What is known of a process is what it has read.
fn check_process(process: &TestProcess, facts: &ProcessFacts) {
    let runs = facts.file;
    assert!(process.versions.contains(&runs.modified), "{runs:?} of {:?}", process.versions);
    assert_eq!(facts.owner, process.owner);
    if let Some(text) = &facts.transcript {
        assert_eq!(*text.0, text_of(&process.id.file, process.owner, runs.modified));
    }
}

/// What a vassal goes back to is its own, and comes in only for what is not there to try a file out.
fn check_proven(path: &VassalFile, vassal: &Vassal) {
    let Some(proven) = &vassal.proven else { return };
    assert_eq!(*proven.text, text_of(path, proven.owner, proven.file.modified));
    for instance in &vassal.instances {
        if vassal.proven_for(instance).is_some() {
            assert!(!instance.is_on_trial && (instance.is_old || vassal.refused.is_some()));
            assert!(vassal.owner.is_none_or(|uid| uid == proven.owner.uid), "another user's");
            let is_its = |owner: Owner| proven.file.owner == Some(owner) && identity(owner) == proven.owner;
            assert!(vassal.file_version.owner.is_none_or(is_its), "another owner's");
        }
    }
}

/// Numbers that are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
