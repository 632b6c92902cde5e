//! The decisions of the registry, told as stories: an event, and the effects that follow. No process, no
//! file, no clock.

use std::ffi::OsStr;

use rustix::io::Errno;

use super::*;
use crate::emperor::core::file_version::FileId;
use crate::emperor::core::instance_id::FIRST;
use crate::emperor::core::machine::{Answer, End};
use crate::emperor::core::order::{Order, Outcome};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::saved::decode::decode;
use crate::emperor::core::saved::encode::encode;
use crate::emperor::core::saved::{Saved, SavedBasis, SavedOrigin, SavedSockets, SavedVassal};
use crate::emperor::core::starts::LOOK;
use crate::emperor::core::status::{STATES, Status};
use crate::emperor::core::tally::ENDS;
use crate::protocol::{
    Announcement, ExitReason, FromVassal, MountReport, MountState, Replication, WaitStatus,
};

mod any_order;
mod moments;

/// A registry, and the time of the story.
struct Story {
    registry: Registry,
    now: Instant,
    next_pid: i32,
    /// The vassals that a cgroup has frozen.
    frozen: Vec<&'static str>,
    /// What the files say with which processes are created.
    text: Option<u64>,
    /// Whether processes say what their configuration was made of.
    tells: bool,
    /// Whose the files are with which processes are created, in tyrant mode.
    owner: Option<Owner>,
}

const OWNER: Owner = Owner { uid: 7, gid: 8 };

impl Story {
    fn new() -> Self {
        Self::with_starts(3)
    }

    /// A story in which so many instances may set up at a time.
    fn with_starts(max_starts: usize) -> Self {
        let rules = Rules {
            backoff: Backoff::new(Duration::from_secs(2), Duration::from_secs(60)),
            heartbeat: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(60),
            max_per_owner: 2,
            max_starts,
            max_rolls: 1,
            checks_config: true,
        };
        let (now, frozen) = (Instant::now(), Vec::new());
        let registry = Registry::new(rules);
        Self { registry, now, next_pid: 100, frozen, text: None, tells: false, owner: None }
    }

    /// An event of the vassal of `/v/NAME.ini`, or of that path; or one of its instance with the number that
    /// follows `#` in the name, or of the first one. Returns the effects.
    fn event(&mut self, name: &str, event: impl Into<Any>) -> Vec<String> {
        match event.into() {
            Any::OfVassal(event) => self.registry.apply(&file(name), event, self.now),
            Any::OfInstance(event) => self.registry.apply_to(&id(name), event, self.now),
        }
        self.effects()
    }

    fn said(&mut self, name: &str, message: FromVassal) -> Vec<String> {
        self.event(name, InstanceEvent::Said(message))
    }

    fn order(&mut self, order: Order, name: &str) -> (Result<String, String>, Vec<String>) {
        (self.registry.handle_order((order, false), OsStr::new(name), self.now), self.effects())
    }

    fn outcome(&self, order: Order, name: &str) -> Outcome {
        self.registry.outcome(order, OsStr::new(name), self.now).0
    }

    /// Lets time pass, and runs the timers that are due. Returns the effects.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        let is_frozen = |id: &InstanceId| self.frozen.iter().any(|name| id.file.name() == *name);
        self.registry.time(self.now, &is_frozen, &|_| true);
        self.effects()
    }

    /// The effects: `name: Effect`, or `name| log line`.
    fn effects(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.registry.next_decision())
            .map(|decision| match decision {
                Decision::Log { of, line } => format!("{of}| {line}"),
                Decision::OfVassal(file, effect) => format!("{}: {effect:?}", file.shown()),
                Decision::OfInstance(id, effect) if id.number == FIRST => {
                    format!("{}: {effect:?}", id.file.shown())
                }
                Decision::OfInstance(id, effect) => {
                    format!("{}#{}: {effect:?}", id.file.shown(), id.number)
                }
            })
            .collect()
    }

    /// The answer to the question for the address: the vassal is not on demand.
    fn no_address(&mut self, name: &str, why: &str) -> Vec<String> {
        self.event(name, Event::Address { why: why.to_owned(), address: Ok(None) })
    }

    /// A process is created. Returns the effects.
    fn spawned(&mut self, name: &str) -> Vec<String> {
        self.next_pid += 1;
        let (pid, text) = (self.next_pid, self.text);
        let is_of_before = self.registry.proven(&id(name)).is_some();
        if let Some(vassal) = self.registry.vassal(&id(name).file).filter(|_| self.owner.is_some()) {
            let version = FileVersion { owner: self.owner, ..vassal.file_version };
            self.registry.apply(&id(name).file, Event::Reading(version), self.now);
        }
        let effects = self.event(name, InstanceEvent::Spawned { pid, owner: OWNER, text, is_of_before });
        if self.tells && !is_of_before {
            self.event(name, InstanceEvent::Transcript(pid.to_string().into()));
        }
        effects
    }

    fn died(&mut self, name: &str) -> Vec<String> {
        self.event(name, InstanceEvent::Died { status: WaitStatus::Exited(0), out_of_memory: false })
    }

    /// A vassal is found, and its process is created.
    fn start(&mut self, name: &str) {
        assert_eq!(
            self.event(name, Event::Found { version: None, has_old_address: false, owner: None }),
            [find(name, "file is back")]
        );
        assert_eq!(self.no_address(name, "file is back"), [format!("{name}: Spawn")]);
        self.spawned(name);
    }

    /// A vassal is found, its process is created, and its app runs.
    fn run(&mut self, name: &str) {
        self.start(name);
        assert_eq!(self.said(name, FromVassal::Running), [format!("{name}| running after 0.00 ms")]);
    }

    fn state(&self, name: &str) -> State {
        self.registry.instance(&id(name)).unwrap().state()
    }

    /// The program of after an upgrade goes on with the vassals.
    fn upgrade(&mut self) {
        let save = |(file, vassal)| SavedVassal {
            file: Rc::clone(file),
            vassal,
            processes: Vec::new(),
            sockets: SavedSockets::default(),
        };
        let saved = Saved::<&Vassal> {
            origin: SavedOrigin::default(),
            began: self.now,
            client: None,
            pid_file: Vec::new(),
            basis: SavedBasis::default(),
            listeners: Vec::new(),
            vassals: self.registry.vassals().map(save).collect(),
        };
        let saved = decode(&encode(&saved, self.now), self.now).unwrap();
        self.registry = Registry::new(self.registry.rules.clone());
        for SavedVassal { file, vassal, .. } in saved.vassals {
            self.registry.take_over(&file, vassal, self.now);
        }
    }
}

/// An event, of whatever.
enum Any {
    OfVassal(Event),
    OfInstance(InstanceEvent),
}

impl From<Event> for Any {
    fn from(event: Event) -> Self {
        Self::OfVassal(event)
    }
}

impl From<InstanceEvent> for Any {
    fn from(event: InstanceEvent) -> Self {
        Self::OfInstance(event)
    }
}

fn id(name: &str) -> InstanceId {
    let (name, number) = name.split_once('#').unwrap_or((name, "1"));
    InstanceId::new(&file(name), number.parse().unwrap())
}

fn file(name: &str) -> Rc<VassalFile> {
    let path = if name.starts_with('/') { name.to_owned() } else { format!("/v/{name}.ini") };
    let name_at = path.rfind('/').unwrap() + 1;
    Rc::new(VassalFile::new(path.into(), name_at))
}

fn find(name: &str, why: &str) -> String {
    format!("{name}: FindAddress {{ why: {why:?} }}")
}

fn address(text: &str) -> Address {
    crate::config::address(text.as_bytes()).unwrap()
}

fn failed(what: &str) -> Error {
    Error::new("do", what, "no luck")
}

#[test]
fn a_file_that_is_found_becomes_an_instance_and_its_end_is_told() {
    let mut story = Story::new();
    assert_eq!(
        story.event("a", Event::Found { version: None, has_old_address: false, owner: None }),
        ["a: FindAddress { why: \"file is back\" }"]
    );
    assert_eq!(story.no_address("a", "file is back"), ["a: Spawn"]);
    assert_eq!(story.spawned("a"), ["a| started (pid 101)", "a: RunCommands"]);
    story.now += Duration::from_secs(2);
    assert_eq!(story.said("a", FromVassal::Running), ["a| running after 2.0 s"]);
    assert_eq!(story.said("a", FromVassal::Running), [""; 0]);
    assert_eq!(story.said("a", FromVassal::Exiting(ExitReason::Stopped)), [""; 0]);
    story.now += Duration::from_secs(3);
    assert_eq!(story.event("a", InstanceEvent::LinkClosed(None)), [""; 0]);
    assert_eq!(story.died("a"), ["a| stopped; up 3.0 s; respawning now", "a: Spawn"]);
    assert_eq!(story.spawned("a"), ["a| started (pid 102)", "a: RunCommands"]);
    let status = story.registry.statuses(story.now).remove(0);
    assert_eq!((status.history.restarts(), status.pid), (1, Some(102)));
    assert_eq!(status.history.past.last_end.as_deref(), Some("stopped"));
}

#[test]
fn a_removed_file_ends_its_vassal() {
    let mut story = Story::new();
    story.run("a");
    assert_eq!(
        story.event("a", Event::Removed("file removed")),
        ["a| file removed: stopping", "a: AskToStop"]
    );
    assert_eq!(story.died("a").last().unwrap(), "a: Remove");
    assert!(story.registry.is_empty() && story.registry.deadline().is_none());
    // The same for a vassal without a process whose address is not known yet.
    story.event("b", Event::Changed("file changed"));
    let gone = ["b: ForgetAddress", "b| file removed: forgotten", "b: Remove"];
    assert_eq!(story.event("b", Event::Removed("file removed")), gone);
    // The answer comes too late, as does every other event.
    assert_eq!(story.no_address("b", ""), [""; 0]);
    assert_eq!(story.died("b"), [""; 0]);
    assert_eq!(story.event("b", InstanceEvent::SpawnFailed(failed("it"))), [""; 0]);
    assert!(story.registry.is_empty());
}

/// With ten thousand vassals, each would be told of again and again.
#[test]
fn what_all_vassals_lack_is_told_once_and_again_when_nobody_lacks_it() {
    let lacks = |errno| InstanceEvent::SpawnFailed(Error::os("create", "process", errno));
    let why = "cannot start: create process: Resource temporarily unavailable (EAGAIN); next try in";
    let mut story = Story::with_starts(9);
    for name in ["a", "b", "c", "d", "e"] {
        story.event(name, Event::Found { version: None, has_old_address: false, owner: None });
        story.no_address(name, "");
    }
    assert_eq!(story.event("a", lacks(Errno::AGAIN)), [format!("a| {why} 2.0 s")]);
    for name in ["b", "c", "d"] {
        assert_eq!(story.event(name, lacks(Errno::AGAIN)), [""; 0]);
    }
    // What is another kind of trouble, or one's own, is told as ever.
    let full = "e| cannot start: create process: Too many open files (EMFILE); next try in 2.0 s";
    assert_eq!(story.event("e", lacks(Errno::MFILE)), [full]);
    let status = |story: &Story, name: &str| {
        let vassal = story.registry.vassal(&file(name)).unwrap();
        vassal.status(&vassal.instances[0], &file(name), story.now).line()
    };
    assert!(status(&story, "c").contains("EAGAIN"), "{}", status(&story, "c"));
    let spawn = ["a", "b", "c", "d", "e"].map(|name| format!("{name}: Spawn"));
    let mut again = story.pass(3);
    again.sort();
    assert_eq!(again, spawn);
    for name in ["a", "b", "c"] {
        assert_eq!(story.event(name, lacks(Errno::AGAIN)), [""; 0]);
    }
    let own = InstanceEvent::SpawnFailed(failed("it"));
    assert_eq!(story.event("d", own), ["d| cannot start: do it: no luck; next try in 4.0 s"]);
    assert_eq!(story.event("e", lacks(Errno::MFILE)), [""; 0]);
    // One that starts, one that is stopped, and one whose file is removed.
    story.pass(5);
    let started = story.spawned("a");
    assert_eq!(started, ["a| started (pid 101)", "a: RunCommands"]);
    assert_eq!(story.order(Order::Stop, "b").1[0], "b| stop by command: stopped");
    assert_eq!(story.event("c", Event::Removed("file removed"))[0], "c| file removed: forgotten");
    assert_eq!(story.spawned("e")[1], "e| it was the last of up to 5 that could not start");
    // From then on it is told anew. One alone has told all of it.
    story.died("a");
    story.pass(9);
    assert_eq!(story.event("a", lacks(Errno::AGAIN)), [format!("a| {why} 16.0 s")]);
    story.pass(18);
    assert_eq!(story.spawned("a"), ["a| started (pid 103)", "a: RunCommands"]);
}

#[test]
fn a_name_that_is_taken_is_waited_for_in_the_order_of_arrival() {
    let mut story = Story::new();
    story.run("a");
    let waits = |path: &str| [format!("a| {path} has to wait: /v/a.ini has the same name")];
    assert_eq!(
        story.event("/w/a.ini", Event::Found { version: None, has_old_address: false, owner: None }),
        waits("/w/a.ini")
    );
    assert_eq!(story.event("/w/a.ini", Event::Changed("file changed")), [""; 0]);
    assert_eq!(
        story.event("/x/a.ini", Event::Found { version: None, has_old_address: false, owner: None }),
        waits("/x/a.ini")
    );
    assert_eq!(
        story.event("/y/a.ini", Event::Found { version: None, has_old_address: false, owner: None }),
        waits("/y/a.ini")
    );
    assert_eq!(story.event("/w/a.ini", Event::Removed("file removed")), [""; 0]);
    story.event("a", Event::Removed("file removed"));
    let next = |path: &str| format!("a| {path}: its turn has come");
    let effects = story.died("a");
    assert_eq!(
        effects[1..],
        ["a: CloseSockets { for_good: true }", "a: Remove", &next("/x/a.ini"), &find("a", "")]
    );
    assert_eq!(
        story.event("/x/a.ini", Event::Address { why: String::new(), address: Ok(None) }),
        ["a: Spawn"]
    );
    // No vassal gets its turn while everything ends.
    story.registry.end(false, story.now);
    story.effects();
    let effects = story.event("/x/a.ini", InstanceEvent::SpawnFailed(failed("it")));
    assert!(!effects.contains(&next("/y/a.ini")), "{effects:?}");
}

#[test]
fn a_vassal_under_another_name_begins_when_it_has_ended_under_the_old_one() {
    let mut story = Story::new();
    story.run("a");
    let renamed =
        |from: &str| Event::Renamed { from: file(from), version: FileVersion::default(), owner: None };
    let stops = ["a| file renamed to b.ini: stopping", "a: AskToStop"];
    assert_eq!(story.event("b", renamed("a")), stops);
    assert_eq!(story.event("b", Event::Changed("file changed")), [""; 0]);
    // Renamed again, and back.
    for (from, to) in [("b", "c"), ("c", "b")] {
        assert_eq!(story.event(to, renamed(from)), [""; 0]);
    }
    let effects = story.died("a");
    let hand_over = format!("a: HandOverSockets {{ to: {:?} }}", file("b"));
    let goes_on = ["b| its file was a.ini before", &find("b", "file is back"), &hand_over, "a: Remove"];
    assert_eq!(effects[1..], goes_on);
    assert_eq!(story.no_address("b", ""), ["b: Spawn"]);
    story.spawned("b");
    // Renamed back before it has ended, or removed for good.
    story.said("b", FromVassal::Running);
    story.event("c", renamed("b"));
    assert_eq!(story.event("b", renamed("c")), [find("b", "file is back")]);
    story.no_address("b", "file is back");
    assert_eq!(story.died("b")[1..], ["b: Spawn"]);
    story.spawned("b");
    story.event("c", renamed("b"));
    assert_eq!(story.event("c", Event::Removed("file removed")), [""; 0]);
    assert_eq!(story.died("b")[1..], ["b: CloseSockets { for_good: true }", "b: Remove"]);
    assert!(story.registry.is_empty());
}

#[test]
fn a_file_that_is_renamed_is_known_by_its_identity_before_it_was_read_under_its_new_name() {
    let mut story = Story::new();
    story.run("a");
    rename(&mut story, "a", "b", 7);
    story.died("a");
    let unclaimed = |story: &Story, name: &str, inode| {
        story.registry.unclaimed(&file(name), FileId { device: 1, inode }).cloned()
    };
    assert_eq!(unclaimed(&story, "c", 7), None, "a scan knows where it is");
    story.registry.unclaim(&[file("b")]);
    assert_eq!(unclaimed(&story, "c", 7), Some(file("b")));
    assert_eq!(unclaimed(&story, "c", 8), None, "another file");
    story.run("d");
    assert_eq!(unclaimed(&story, "d", 7), None, "the name has a vassal");
}

/// The effects of a rename, and of the end of each of the two, without what is logged.
fn rename(story: &mut Story, from: &str, to: &str, inode: u64) -> Vec<String> {
    let version = FileVersion { device: 1, inode, ..FileVersion::default() };
    let mut effects = story.event(to, Event::Renamed { from: file(from), version, owner: None });
    effects.retain(|effect| !effect.contains("| "));
    effects
}

#[test]
fn a_file_renamed_over_that_of_a_vassal_takes_its_sockets_along_when_both_have_ended() {
    let hand_over = |from: &str, to: Rc<VassalFile>| format!("{from}: HandOverSockets {{ to: {to:?} }}");
    let parked = Rc::new(VassalFile::new("/v/a.ini/moved".into(), 3));
    let removed = "a.ini/moved: Remove".to_owned();
    for is_first in [true, false] {
        let mut story = Story::new();
        story.run("a");
        story.run("b");
        assert_eq!(rename(&mut story, "a", "b", 1), ["b: AskToStop", "a: AskToStop"]);
        assert_eq!(story.event("b", Event::Changed("file changed")), [""; 0]);
        let effects = if is_first {
            assert!(story.died("a").contains(&hand_over("a", Rc::clone(&parked))));
            let effects = story.died("b");
            assert!(
                effects.ends_with(&[hand_over("a.ini/moved", file("b")), removed.clone()]),
                "{effects:?}"
            );
            effects
        } else {
            story.died("b");
            let effects = story.died("a");
            assert!(effects.contains(&hand_over("a", file("b"))), "{effects:?}");
            effects
        };
        assert!(effects.contains(&find("b", "file is back")), "{effects:?}");
        assert_eq!(story.no_address("b", ""), ["b: Spawn"]);
        assert!(story.registry.vassal(&file("a")).is_none());
    }
    // Renamed again when an editor has made another file of it.
    let mut story = Story::new();
    story.run("a");
    rename(&mut story, "a", "b", 1);
    assert_eq!(rename(&mut story, "b", "c", 9), [""; 0]);
    assert!(story.died("a").contains(&hand_over("a", file("c"))));
    // One that does not run leaves the other one as it is.
    let mut story = Story::new();
    story.run("a");
    story.event("b", Event::Found { version: None, has_old_address: false, owner: None });
    story.no_address("b", "");
    story.event("b", InstanceEvent::SpawnFailed(failed("it")));
    assert_eq!(rename(&mut story, "b", "a", 1)[..1], [find("a", "file changed")]);
    assert!(story.registry.vassal(&file("b")).is_none());
    // What waits can be removed.
    let mut story = Story::new();
    story.run("a");
    story.run("b");
    rename(&mut story, "a", "b", 1);
    story.died("a");
    story.event("b", Event::Removed("file removed"));
    story.died("b");
    assert!(story.registry.is_empty() && story.registry.renamed.is_empty());
}

#[test]
fn two_files_that_exchange_their_names_exchange_their_sockets_and_others_move_up() {
    for (count, renames) in [(2, [(0, 1), (1, 0)]), (3, [(0, 1), (1, 2)])] {
        let names = ["a", "b", "c"];
        let mut story = Story::new();
        names.iter().take(count).for_each(|name| story.run(name));
        for (from, to) in renames {
            rename(&mut story, names[from], names[to], from as u64);
        }
        let all: Vec<_> = names.iter().take(count).flat_map(|name| story.died(name)).collect();
        for (from, to) in renames {
            let handed = format!(": HandOverSockets {{ to: {:?} }}", file(names[to]));
            let is_it = |effect: &String| effect.starts_with(names[from]) && effect.ends_with(&handed);
            assert!(all.iter().any(is_it), "{all:?}");
            assert!(all.contains(&find(names[to], "file is back")), "{all:?}");
            assert!(story.no_address(names[to], "").contains(&format!("{}: Spawn", names[to])));
        }
        assert!(story.registry.renamed.is_empty());
    }
}

#[test]
fn a_new_file_of_the_old_name_keeps_none_waiting_that_had_it_before() {
    let mut story = Story::new();
    story.run("a");
    let rename = |story: &mut Story, to: &str| {
        story.event(to, Event::Renamed { from: file("a"), version: FileVersion::default(), owner: None });
    };
    let come_back = |story: &mut Story| {
        story.event("a", Event::Found { version: None, has_old_address: false, owner: None });
        story.no_address("a", "file is back");
    };
    let begins = |name: &str| [format!("{name}| its file was a.ini before"), find(name, "file is back")];
    let hand_over = |name: &str| format!("a: HandOverSockets {{ to: {:?} }}", file(name));
    rename(&mut story, "b");
    come_back(&mut story);
    let effects = story.died("a");
    assert!(effects.contains(&"a: Spawn".to_owned()), "{effects:?}");
    assert!(effects.ends_with(&begins("b")), "{effects:?}");
    story.spawned("a");
    story.said("a", FromVassal::Running);
    rename(&mut story, "c");
    come_back(&mut story);
    rename(&mut story, "d");
    let effects = story.died("a");
    let first = [&begins("c")[..], &[hand_over("c")]].concat();
    assert_eq!(effects[1..], [&first[..], &begins("d"), &["a: Remove".to_owned()]].concat());
}

#[test]
fn a_vassal_that_was_stopped_by_command_is_so_under_another_name() {
    let mut story = Story::new();
    story.run("a");
    story.order(Order::Stop, "a").0.unwrap();
    story.died("a");
    let renamed =
        |from: &str| Event::Renamed { from: file(from), version: FileVersion::default(), owner: None };
    let effects = story.event("b", renamed("a"));
    assert_eq!(effects[0], "a| file renamed to b.ini: forgotten");
    assert_eq!(story.state("b"), State::Held);
    assert!(!story.no_address("b", "").contains(&"b: Spawn".to_owned()));
    // A file that never was a vassal.
    assert_eq!(story.event("d", renamed("c")), [find("d", "file is back")]);
}

#[test]
fn a_vassal_whose_file_has_its_own_name_back_is_not_stopped() {
    let mut story = Story::new();
    story.run("a");
    let renamed = Event::Renamed { from: file("a"), version: FileVersion::default(), owner: None };
    assert_eq!(story.event("a", renamed), [find("a", "file changed")]);
}

#[test]
fn a_file_that_is_moved_is_named_with_its_directory_and_leaves_its_sockets_to_its_owner() {
    let mut story = Story::new();
    for (from, to, owner, takes) in [("a", "/w/b.ini", None, true), ("c", "/w/d.ini", Some(7), false)] {
        story.run(from);
        let effects =
            story.event(to, Event::Renamed { from: file(from), version: FileVersion::default(), owner });
        assert_eq!(
            effects,
            [format!("{from}| file renamed to {to}: stopping"), format!("{from}: AskToStop")]
        );
        let effects = story.died(from);
        assert!(effects[1].ends_with(&format!("| its file was /v/{from}.ini before")), "{effects:?}");
        assert_eq!(effects.iter().any(|effect| effect.contains("HandOverSockets")), takes, "{effects:?}");
    }
}

#[test]
fn failures_back_off_twice_as_long_each_time_until_they_are_cleared() {
    let mut story = Story::new();
    story.event("a", Event::Found { version: None, has_old_address: false, owner: None });
    story.no_address("a", "");
    let error = || InstanceEvent::SpawnFailed(failed("it"));
    assert_eq!(story.event("a", error()), ["a| cannot start: do it: no luck; next try in 2.0 s"]);
    assert_eq!((story.pass(1), story.pass(1)), (vec![], vec!["a: Spawn".to_owned()]));
    story.spawned("a");
    story.now += Duration::from_secs(1);
    let why = "vassal-init exited with status 0 without a reason";
    let line = format!("a| {why}; 1.0 s after its start, never ran; next try in 4.0 s");
    assert_eq!(story.died("a"), [line]);
    let failures = story.registry.statuses(story.now).remove(0).history.past.failures.unwrap();
    assert_eq!((failures.count, failures.wait), (2, Duration::from_secs(4)));
    // Up to a tenth longer, differently for each vassal.
    assert_eq!((story.pass(4), story.pass(1)), (vec![], vec!["a: Spawn".to_owned()]));
    // Down for longer than connections may wait.
    for wait in [8, 16] {
        let effects = story.event("a", error());
        assert_eq!(effects, [format!("a| cannot start: do it: no luck; next try in {wait}.0 s")]);
        assert_eq!((story.pass(wait), story.pass(2)), (vec![], vec!["a: Spawn".to_owned()]));
    }
    story.spawned("a");
    assert_eq!(story.died("a")[1..], ["a: CloseSockets { for_good: false }"]);
    story.registry.clear_backoffs(story.now);
    assert_eq!(story.effects(), ["a: Spawn"]);
    assert_eq!(story.event("a", error()), ["a| cannot start: do it: no luck; next try in 2.0 s"]);
}

#[test]
fn vassals_that_fail_together_do_not_come_back_together() {
    let mut story = Story::with_starts(100);
    let names: Vec<_> = (0..20).map(|number| format!("app{number}")).collect();
    let due = |story: &Story| -> Vec<Duration> {
        let mut due: Vec<_> = deadlines(story).map(|deadline| deadline - story.now).collect();
        due.sort();
        due
    };
    names.iter().for_each(|name| story.start(name));
    names.iter().for_each(|name| drop(story.died(name)));
    assert_eq!(due(&story), [Duration::from_secs(2); 20], "a single failure waits for as long as it says");
    assert_eq!(story.pass(2).len(), 20);
    names.iter().for_each(|name| drop(story.spawned(name)));
    names.iter().for_each(|name| drop(story.died(name)));
    let waits = due(&story);
    let (first, last) = (waits[0], waits[19]);
    assert!(first >= Duration::from_secs(4) && last <= Duration::from_millis(4400), "{waits:?}");
    assert!(last - first > Duration::from_millis(200), "{waits:?}");
    assert!(waits.chunks(5).all(|few| few[0] != few[4]), "{waits:?}");
    // Nor is the order the same the next time.
    let order = |round| {
        let mut order: Vec<_> = names.iter().map(|name| file(name).chance(round) % 100).collect();
        order.dedup();
        order
    };
    assert_ne!(order(2), order(3));
}

/// An event, with the effects that follow.
type Act = fn(&mut Story) -> Vec<String>;

/// Finds a vassal that must wait for its turn.
fn queue(story: &mut Story, name: &str) {
    story.event(name, Event::Found { version: None, has_old_address: false, owner: None });
    assert_eq!(story.no_address(name, "file is back"), [""; 0], "{name}");
    let vassal = story.registry.vassal(&file(name)).unwrap();
    let line = vassal.status(&vassal.instances[0], &file(name), story.now).line();
    assert_eq!(line, "starting, waits for its turn (emperor-max-starts), 0 restarts");
}

#[test]
fn no_more_than_so_many_set_up_at_a_time() {
    // The events that end a turn, with what is logged about them.
    let running = |story: &mut Story| story.said("a", FromVassal::Running);
    let fails = |story: &mut Story| story.died("a");
    let has_no_process = |story: &mut Story| story.event("b", InstanceEvent::SpawnFailed(failed("it")));
    let is_slow = |story: &mut Story| story.pass(1);
    let ends: [Act; 4] = [running, fails, has_no_process, is_slow];
    for end in ends {
        let mut story = Story::with_starts(2);
        story.start("a");
        story.event("b", Event::Found { version: None, has_old_address: false, owner: None });
        assert_eq!(story.no_address("b", "file is back"), ["b: Spawn"]);
        queue(&mut story, "c");
        queue(&mut story, "d");
        let until = story.now + Duration::from_secs(1);
        assert_eq!(story.registry.deadline(), Some(story.now + LOOK));
        let effects = end(&mut story);
        let begun: Vec<_> = effects.iter().filter(|effect| effect.ends_with(": Spawn")).collect();
        let both: &[_] = if story.now == until { &["c: Spawn", "d: Spawn"] } else { &["c: Spawn"] };
        assert_eq!(begun, both, "{effects:?}");
    }
}

#[test]
fn a_slow_setup_is_told_from_when_it_has_begun() {
    let mut story = Story::with_starts(1);
    story.start("a");
    queue(&mut story, "b");
    story.now += Duration::from_secs(9);
    assert_eq!(story.said("a", FromVassal::Running)[1..], ["b: Spawn"]);
    story.spawned("b");
    assert_eq!(story.pass(2), [""; 0]);
    assert_eq!(story.pass(8), ["b: Look"]);
}

#[test]
fn a_vassal_that_waits_for_its_turn_is_ended_at_once() {
    let stop = |story: &mut Story| story.order(Order::Stop, "b").1;
    let remove = |story: &mut Story| story.event("b", Event::Removed("file removed"));
    let end = |story: &mut Story| {
        story.registry.end(false, story.now);
        story.effects().into_iter().filter(|effect| !effect.starts_with("a")).collect()
    };
    let kill = |story: &mut Story| {
        story.registry.end(true, story.now);
        story.effects().into_iter().filter(|effect| !effect.starts_with("a")).collect()
    };
    let table: [(Act, &[&str], bool); 4] = [
        (stop, &["b| stop by command: stopped", "b: ForgetFile", "b: ForgetSocket", "b: CloseDemand"], true),
        (remove, &["b| file removed: forgotten", "b: ForgetFile", "b: ForgetSocket", "b: Remove"], false),
        (end, &["b: ForgetFile", "b: ForgetSocket", "b: Remove"], false),
        (kill, &["b: ForgetFile", "b: ForgetSocket", "b: Remove"], false),
    ];
    for (act, effects, stays) in table {
        let mut story = Story::with_starts(1);
        story.start("a");
        queue(&mut story, "b");
        assert_eq!(act(&mut story), effects);
        assert_eq!(story.registry.vassal(&file("b")).is_some(), stays);
        // Its turn no longer comes.
        let next: Vec<_> = story.pass(1).into_iter().filter(|effect| effect.starts_with("b")).collect();
        assert_eq!(next, [""; 0]);
    }
    // A change is not a reason to kill it either.
    let mut story = Story::with_starts(1);
    story.start("a");
    queue(&mut story, "b");
    queue(&mut story, "c");
    story.event("b", Event::Changed("file changed"));
    assert_eq!(story.no_address("b", "file changed"), ["b| file changed: starting", "b: ForgetFile"]);
    assert_eq!(story.order(Order::Start, "b").0, Ok("b: started already".to_owned()));
    let begun = |story: &mut Story, name| story.said(name, FromVassal::Running)[1..].to_vec();
    assert_eq!(begun(&mut story, "a"), ["c: Spawn"]);
    story.spawned("c");
    assert_eq!(begun(&mut story, "c"), ["b: Spawn"]);
}

#[test]
fn those_that_have_run_before_come_first_and_not_before_all_others() {
    let mut story = Story::with_starts(1);
    ["old", "other"].iter().for_each(|name| story.run(name));
    story.pass(2);
    story.start("slow");
    ["new", "newer"].iter().for_each(|name| queue(&mut story, name));
    for name in ["old", "other"] {
        let reason = ExitReason::MountLost("/mnt".to_owned());
        story.said(name, FromVassal::Exiting(reason));
        assert!(story.died(name)[0].ends_with("respawning now"));
    }
    let mut order = story.said("slow", FromVassal::Running)[1..].to_vec();
    for name in ["old", "new", "other"] {
        story.spawned(name);
        order.extend_from_slice(&story.said(name, FromVassal::Running)[1..]);
    }
    assert_eq!(order, ["old: Spawn", "new: Spawn", "other: Spawn", "newer: Spawn"]);
}

#[test]
fn a_crash_loop_does_not_come_before_those_that_have_not_run_yet() {
    let mut story = Story::with_starts(1);
    story.start("crashes");
    queue(&mut story, "new");
    assert_eq!(story.died("crashes")[1..], ["new: Spawn"]);
    story.spawned("new");
    queue(&mut story, "newer");
    story.now += Duration::from_secs(2);
    assert_eq!(story.registry.timers.due(story.now), Some(id("crashes")));
    story.registry.step(&id("crashes"), Input::Time, story.now);
    assert_eq!(story.effects(), ["newer: Spawn"]);
}

#[test]
fn one_whose_turn_has_come_may_be_stopped_before_it_is_created() {
    let mut story = Story::with_starts(1);
    story.event("a", Event::Found { version: None, has_old_address: false, owner: None });
    story.registry.apply(&file("a"), Event::Address { why: String::new(), address: Ok(None) }, story.now);
    let _ = story.registry.handle_order((Order::Stop, false), OsStr::new("a"), story.now);
    assert_eq!(
        story.effects(),
        ["a| stop by command: stopped", "a: ForgetFile", "a: ForgetSocket", "a: CloseDemand"]
    );
    let _ = story.registry.handle_order((Order::Start, false), OsStr::new("a"), story.now);
    assert_eq!(story.effects(), ["a| start by command: starting", "a: Spawn"]);
}

#[test]
fn a_file_that_hangs_takes_nobodys_turn_and_costs_no_app() {
    let mut story = Story::with_starts(1);
    story.run("up");
    story.event("far", Event::Found { version: None, has_old_address: false, owner: None });
    assert_eq!(story.no_address("far", ""), ["far: Spawn"]);
    queue(&mut story, "near");
    assert_eq!(story.event("far", InstanceEvent::ReadsSlowly), ["near: Spawn"]);
    // A change since then is read after the present reading.
    story.event("far", Event::Changed("file changed"));
    assert_eq!(story.no_address("far", "file changed"), ["far| file changed: starting", "far: ForgetFile"]);
    assert_eq!(story.event("near", InstanceEvent::SpawnFailed(failed("it"))).last().unwrap(), "far: Spawn");
    assert_eq!(
        story.event("far", InstanceEvent::SpawnFailed(failed("read"))),
        ["far| cannot start: do read: no luck; next try in 2.0 s"]
    );
    assert_eq!(story.event("far", InstanceEvent::ReadsSlowly), [""; 0]);
    // A vassal that runs goes on, and has all of its time to answer once it was sent the file.
    story.event("up", Event::Changed("file changed"));
    assert_eq!(story.no_address("up", "file changed").last().unwrap(), "up: Reload");
    assert_eq!(
        story.event("up", InstanceEvent::ReloadFailed(failed("read"))),
        ["up| cannot reload: do read: no luck; the app goes on as it was"]
    );
    story.event("up", Event::Changed("its file can be read by now"));
    story.no_address("up", "its file can be read by now");
    story.pass(4);
    story.event("up", InstanceEvent::ReloadSent(None));
    let effects = story.pass(4);
    assert!(!effects.iter().any(|effect| effect.starts_with("up")), "{effects:?}");
    assert_eq!(story.pass(1), ["up| the reload was not answered in time: restarting", "up: AskToStop"]);
    // Once its file is read, it sets up like the others.
    let mut story = Story::with_starts(1);
    story.event("far", Event::Found { version: None, has_old_address: false, owner: None });
    assert_eq!(story.no_address("far", ""), ["far: Spawn"]);
    story.event("far", InstanceEvent::ReadsSlowly);
    story.spawned("far");
    queue(&mut story, "near");
    assert_eq!(story.said("far", FromVassal::Running).last().unwrap(), "near: Spawn");
}

#[test]
fn a_vassal_whose_address_is_not_read_in_time_stays_as_it_is() {
    let mut story = Story::new();
    story.run("a");
    story.event("a", Event::Changed("file changed"));
    let late = ["a| do read: no luck; it stays as it is"];
    assert_eq!(story.event("a", Event::AddressLate(failed("read"))), late);
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Failed);
    assert!(matches!(story.state("a"), State::Running { .. }));
    // The answer is no longer needed.
    assert_eq!(story.no_address("a", "file changed"), [""; 0]);
    assert_eq!(story.event("a", Event::AddressLate(failed("read"))), [""; 0]);
    // The same for a vassal that has never run.
    story.event("b", Event::Found { version: None, has_old_address: false, owner: None });
    story.event("b", Event::AddressLate(failed("read")));
    assert_eq!(story.state("b"), State::Idle);
    story.event("b", Event::Changed("its file can be read by now"));
    assert_eq!(story.no_address("b", ""), ["b: Spawn"]);
}

#[test]
fn only_what_has_no_process_is_used_in_the_version_that_a_scan_has_seen() {
    let mut story = Story::new();
    let version = |modified| FileVersion { modified, ..FileVersion::default() };
    let used = |story: &Story| story.registry.vassal(&file("a")).unwrap().file_version;
    story.event("a", Event::Found { version: None, has_old_address: false, owner: None });
    story.event("a", Event::Seen(version(1)));
    assert_eq!(used(&story), version(1));
    story.no_address("a", "");
    story.event("a", Event::Reading(version(2)));
    story.spawned("a");
    story.event("a", Event::Seen(version(3)));
    assert_eq!(used(&story), version(2));
}

#[test]
fn a_file_on_a_filesystem_that_was_mounted_anew_is_the_one_of_before() {
    let mut story = Story::new();
    let first = FileVersion { modified_nanos: 1, device: 1, inode: 2, ..FileVersion::default() };
    let [second, third] = [2, 3].map(|device| FileVersion { device, ..first });
    story.run("a");
    story.event("a", Event::Reading(first));
    for (version, is_it) in [
        (first, false),
        (second, true),
        (second, false),
        (first, true),
        (FileVersion { inode: 3, ..second }, false),
        (FileVersion { size: 3, ..second }, false),
        (FileVersion { modified: 3, ..second }, false),
        (FileVersion { owner: Some(Owner { uid: 3, gid: 3 }), ..second }, false),
    ] {
        assert_eq!(story.registry.is_remounted(&file("a"), version), is_it, "{version:?}");
    }
    // An image that has one time for all its files may be another release.
    story.event("a", Event::Reading(FileVersion { modified_nanos: 0, ..first }));
    assert!(!story.registry.is_remounted(&file("a"), FileVersion { modified_nanos: 0, ..second }));
    // During an upgrade.
    story.event("a", Event::Reading(second));
    story.registry.unclaim(&[file("a")]);
    let found = Event::Found { version: Some(third), has_old_address: false, owner: None };
    assert_eq!(story.event("a", found), [""; 0]);
}

#[test]
fn where_only_what_it_says_counts_a_touched_file_is_read_first() {
    let mut story = Story::new();
    let compared = |story: &mut Story, text| {
        assert_eq!(story.event("a", Event::Touched("file changed", None)), ["a: Compare"]);
        story.event("a", Event::Compared(text))
    };
    const SAME: [&str; 1] = ["a| file touched: it says what it said before, and the app goes on"];
    story.text = Some(1);
    story.run("a");
    assert_eq!(compared(&mut story, Some(1)), SAME);
    // What it says counts once it is known to work.
    for (answer, refused) in [(FromVassal::Refused("no".to_owned()), true), (FromVassal::Reloaded, false)] {
        assert_eq!(compared(&mut story, Some(2)), [find("a", "file changed")]);
        assert_eq!(story.no_address("a", "file changed"), ["a| file changed: reloading", "a: Reload"]);
        // Until then each change counts.
        assert_eq!(story.event("a", Event::Touched("file changed", None)), [find("a", "file changed")]);
        story.event("a", InstanceEvent::ReloadSent(Some(2)));
        story.said("a", answer);
        story.no_address("a", "file changed");
        story.event("a", InstanceEvent::ReloadSent(Some(2)));
        story.said("a", FromVassal::Refused("no".to_owned()));
        assert!(story.registry.vassal(&file("a")).unwrap().refused.is_some());
        let before = if refused { 1 } else { 2 };
        assert_eq!(compared(&mut story, Some(before)), SAME);
        assert_eq!(story.registry.vassal(&file("a")).unwrap().refused, None);
    }
    // Nobody can tell, or the file does not ask for it any more.
    assert_eq!(compared(&mut story, None), [find("a", "file changed")]);
    story.no_address("a", "file changed");
    story.event("a", InstanceEvent::ReloadSent(None));
    story.said("a", FromVassal::Reloaded);
    assert_eq!(story.event("a", Event::Touched("file changed", None)), [find("a", "file changed")]);
    // By command, always; and a file that is gone meanwhile is not back.
    story.run("b");
    assert_eq!(story.event("b", Event::Touched("file changed", None)), ["b: Compare"]);
    assert_eq!(story.order(Order::Reload, "b").1, [find("b", "reload by command")]);
    assert_eq!(story.event("b", Event::Compared(Some(1))), [""; 0]);
    story.run("c");
    assert_eq!(story.event("c", Event::Touched("file changed", None)), ["c: Compare"]);
    story.event("c", Event::Removed("file removed"));
    assert_eq!(story.event("c", Event::Compared(Some(2))), [""; 0]);
}

#[test]
fn instances_that_run_with_other_files_are_all_replaced_by_a_touch() {
    let mut story = Story::new();
    story.text = Some(1);
    run_set(&mut story, 2);
    assert_eq!(story.event("a", Event::Touched("file changed", None)), ["a: Compare"]);
    // One comes back meanwhile, with what the file says by now.
    story.died("a#2");
    story.text = Some(2);
    run_one(&mut story, 2, rolling(2));
    assert_eq!(story.event("a", Event::Compared(Some(2))), [find("a", "file changed")]);
    story.no_address("a", "file changed");
    assert_eq!(story.event("a", Event::Touched("file changed", None)), [find("a", "file changed")]);
}

#[test]
fn an_invalid_file_waits_for_a_change() {
    let mut story = Story::new();
    story.start("a");
    story.said("a", FromVassal::Exiting(ExitReason::Config("a.ini:1: no".to_owned())));
    let effects = story.died("a");
    assert!(
        effects[0].ends_with("never ran; waiting for the file to change, next try in 60.0 s"),
        "{effects:?}"
    );
    assert_eq!(story.event("a", Event::Changed("file changed")), [find("a", "file changed")]);
    assert_eq!(story.no_address("a", "file changed"), ["a| file changed: starting", "a: Spawn"]);
}

#[test]
fn a_vassal_that_is_held_stays_stopped_until_a_command_starts_it() {
    let mut story = Story::new();
    story.run("a");
    assert_eq!(
        story.order(Order::Stop, "a"),
        (
            Ok("a: stopping".to_owned()),
            vec!["a| stop by command: stopping".to_owned(), "a: AskToStop".to_owned()]
        )
    );
    assert_eq!(story.outcome(Order::Stop, "a"), Outcome::Pending);
    assert_eq!(
        story.order(Order::Reload, "a").0.unwrap_err(),
        "a was stopped by command: 'emperor start' starts it"
    );
    let effects = story.died("a");
    assert_eq!(effects[1..], ["a: CloseSockets { for_good: false }", "a: CloseDemand"]);
    assert!(effects[0].ends_with("; not respawned before 'emperor start'"), "{effects:?}");
    assert_eq!((story.state("a"), story.outcome(Order::Stop, "a")), (State::Held, Outcome::Done));
    assert_eq!(story.order(Order::Stop, "a").0.unwrap(), "a: stopped already");
    story.event("a", Event::Changed("file changed"));
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Pending);
    let effects = story.no_address("a", "file changed");
    assert_eq!(effects[0], "a| file changed: stays stopped, as commanded");
    assert!(!effects.contains(&"a: Spawn".to_owned()), "{effects:?}");
    let (answer, effects) = story.order(Order::Start, "a");
    assert_eq!((answer.unwrap(), effects.last().unwrap().as_str()), ("a: starting".to_owned(), "a: Spawn"));
    story.spawned("a");
    assert_eq!(story.order(Order::Start, "a").0.unwrap(), "a: started already");
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Pending);
    story.said("a", FromVassal::Running);
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Pending);
    story.now += Duration::from_secs(1);
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Done);
    assert_eq!(story.order(Order::Stop, "b").0.unwrap_err(), "there is no vassal 'b'");
    let file = story.order(Order::Stop, "a.ini").0.unwrap_err();
    assert_eq!(file, "there is no vassal 'a.ini': did you mean 'a'?");
    assert_eq!(story.outcome(Order::Stop, "b"), Outcome::Done);
    assert_eq!(story.outcome(Order::Start, "b"), Outcome::Failed);
}

#[test]
fn a_reload_is_sent_answered_and_sent_again_after_another_change() {
    let mut story = Story::new();
    story.run("a");
    let reload = |story: &mut Story, how: &str| {
        assert_eq!(story.event("a", Event::Changed("file changed")), [find("a", "file changed")]);
        assert!(story.registry.is_reloading());
        let effects = story.no_address("a", "file changed");
        assert_eq!(effects[0], format!("a| file changed: {how}"));
        effects[1..].to_vec()
    };
    assert_eq!(reload(&mut story, "reloading"), ["a: Reload"]);
    assert_eq!(story.event("a", InstanceEvent::ReloadSent(None)), [""; 0]);
    assert_eq!(reload(&mut story, "reloading once more after the reload that is going on"), [""; 0]);
    story.now += Duration::from_secs(1);
    let effects = ["a| reloaded after 1.0 s; reloading once more", "a: Reload"];
    assert_eq!(story.said("a", FromVassal::Reloaded), effects);
    story.event("a", InstanceEvent::ReloadSent(None));
    story.now += Duration::from_secs(2);
    assert_eq!(
        story.said("a", FromVassal::Refused("no".to_owned())),
        ["a| reload refused: no; the app goes on as it was"]
    );
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Failed);
    assert!(!story.registry.is_reloading());
    assert_eq!(story.said("a", FromVassal::Reloaded), [""; 0], "nobody has asked");
    assert_eq!(reload(&mut story, "reloading"), ["a: Reload"]);
    assert_eq!(
        story.event("a", InstanceEvent::ReloadFailed(failed("it"))),
        ["a| cannot reload: do it: no luck; the app goes on as it was"]
    );
    // The reason of the refusal is logged again when an instance is started with that file after all.
    story.now += Duration::from_secs(1);
    story.died("a");
    let started =
        ["a| started (pid 102)", "a| it was started with the file whose reload was refused: do it: no luck"];
    assert_eq!(story.spawned("a")[..2], started);
}

#[test]
fn a_reload_that_is_impossible_is_checked_before_the_app_is_stopped_for_it() {
    let mut story = Story::new();
    story.run("a");
    let ask = |story: &mut Story| {
        story.event("a", Event::Changed("file changed"));
        story.no_address("a", "file changed");
        let effects = story.event("a", InstanceEvent::ReloadImpossible("its file is a program".to_owned()));
        assert_eq!(effects, ["a: CheckConfig { why: \"its file is a program\" }"]);
        assert_eq!(story.event("a", InstanceEvent::CheckBegun(Duration::from_secs(11))), [""; 0]);
    };
    ask(&mut story);
    assert_eq!(
        story.event("a", InstanceEvent::Checked(Answer::Refused, "a.ini:1: no".to_owned())),
        ["a| reload refused: a.ini:1: no; the app goes on as it was"]
    );
    ask(&mut story);
    let restart = ["a| needs a fresh jail: another root: restarting", "a: AskToStop"];
    assert_eq!(
        story.event("a", InstanceEvent::Checked(Answer::NeedsRespawn, "another root".to_owned())),
        restart
    );
    assert_eq!(story.died("a").last().unwrap(), "a: Spawn");
    story.spawned("a");
    story.said("a", FromVassal::Running);
    // A check that is no longer needed, or cannot be made.
    ask(&mut story);
    let stop = ["a| file removed: stopping", "a: ForgetFile", "a: AskToStop"];
    assert_eq!(story.event("a", Event::Removed("file removed")), stop);
    story.died("a");
    story.run("a");
    story.event("a", Event::Changed("file changed"));
    story.no_address("a", "file changed");
    story.said("a", FromVassal::NeedsRespawn("another root".to_owned()));
    let effects =
        story.event("a", InstanceEvent::CheckFailed { error: failed("it"), why: "another root".to_owned() });
    assert_eq!(effects[0], "a| do it: no luck: its file is not read before it is restarted");
    assert_eq!(effects[1..], restart);
    // A check that takes too long means a refusal, but its result still counts.
    let late = "reading the new file takes too long: its file is a program";
    let refused = [format!("a| reload refused: {late}; the app goes on as it was")];
    let mut story = Story::new();
    story.run("a");
    ask(&mut story);
    assert_eq!((story.pass(11), story.pass(1)), (vec![], refused.to_vec()));
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Failed);
    assert_eq!(
        story.event("a", InstanceEvent::Checked(Answer::Refused, "a.ini:1: no".to_owned())),
        ["a| reload refused: a.ini:1: no; the app goes on as it was"]
    );
    ask(&mut story);
    assert_eq!(story.pass(12), refused);
    assert_eq!(story.pass(60), [""; 0]);
    assert_eq!(
        story.event("a", InstanceEvent::Checked(Answer::NeedsRespawn, "another root".to_owned())),
        restart
    );
    // The result does not count if the file has changed since.
    let mut story = Story::new();
    story.run("a");
    ask(&mut story);
    story.pass(12);
    story.event("a", Event::Changed("file changed"));
    let effects = story.no_address("a", "file changed");
    assert_eq!(effects, ["a| file changed: reloading", "a: ForgetFile", "a: Reload"]);
    story.event("a", InstanceEvent::ReloadSent(None));
    assert_eq!(
        story.event("a", InstanceEvent::Checked(Answer::NeedsRespawn, "another root".to_owned())),
        [""; 0]
    );
    // In tyrant mode a file is only read with the rights of its owner.
    let mut story = Story::new();
    story.registry.rules.checks_config = false;
    story.run("a");
    story.event("a", Event::Changed("file changed"));
    story.no_address("a", "file changed");
    assert_eq!(story.said("a", FromVassal::NeedsRespawn("another root".to_owned())), restart);
}

#[test]
fn who_changes_many_files_has_no_more_of_them_checked_at_a_time_than_may_start() {
    let mut story = Story::with_starts(1);
    ["a", "b", "c"].iter().for_each(|name| story.run(name));
    let ask = |story: &mut Story, name: &str| {
        story.event(name, Event::Changed("file changed"));
        story.no_address(name, "file changed");
        story.event(name, InstanceEvent::ReloadImpossible("another root".to_owned()))
    };
    let begun = || InstanceEvent::CheckBegun(Duration::from_secs(11));
    let check = |name: &str| format!("{name}: CheckConfig {{ why: \"another root\" }}");
    assert_eq!(ask(&mut story, "a"), [check("a")]);
    story.event("a", begun());
    assert_eq!(ask(&mut story, "b"), [""; 0]);
    assert!(story.registry.is_checking());
    let refused = "reload refused: no; the app goes on as it was";
    let effects = story.event("a", InstanceEvent::Checked(Answer::Refused, "no".to_owned()));
    assert_eq!(effects, [format!("a| {refused}"), check("b")]);
    story.event("b", begun());
    // One that takes long keeps nobody waiting. Its time began with its turn.
    assert_eq!(ask(&mut story, "c"), [""; 0]);
    assert_eq!(story.pass(1), [check("c")]);
    story.event("c", begun());
    assert_eq!(ask(&mut story, "a"), [""; 0]);
    let stop = ["a| file removed: stopping", "a: ForgetFile", "a: AskToStop"];
    assert_eq!(story.event("a", Event::Removed("file removed")), stop);
    let effects = story.event("c", InstanceEvent::Checked(Answer::Refused, "no".to_owned()));
    assert_eq!(effects, [format!("c| {refused}")], "what is stopped is not checked");
    story.died("a");
    let late =
        "b| reload refused: reading the new file takes too long: another root; the app goes on as it was";
    assert_eq!(story.pass(11)[..1], [late]);
    assert!(!story.registry.is_checking());
}

/// Otherwise all apps would be down until all of them have begun, and who got no processor in time would be
/// restarted.
#[test]
fn who_changes_many_files_has_no_more_of_them_sent_at_a_time_than_may_start() {
    let mut story = Story::with_starts(1);
    ["a", "b", "c", "d"].iter().for_each(|name| story.run(name));
    let touch = |story: &mut Story, name: &str| {
        story.event(name, Event::Changed("file changed"));
        story.no_address(name, "file changed")
    };
    assert_eq!(touch(&mut story, "a"), ["a| file changed: reloading", "a: Reload"]);
    for name in ["b", "c", "d"] {
        assert_eq!(touch(&mut story, name), [format!("{name}| file changed: reloading")]);
    }
    story.event("a", InstanceEvent::ReloadSent(None));
    // What is stopped meanwhile is not sent its file.
    assert_eq!(story.event("c", Event::Removed("file removed"))[1..], ["c: AskToStop"]);
    assert_eq!(story.said("a", FromVassal::Reloaded), ["a| reloaded after 0.00 ms", "b: Reload"]);
    assert!(story.registry.is_checking(), "the next program would not know that d waits");
    story.event("b", InstanceEvent::ReloadSent(None));
    // One that takes long keeps nobody waiting. The time for an answer begins with the turn.
    assert_eq!(story.pass(1), ["d: Reload"]);
    assert!(!story.registry.is_checking());
    assert_eq!(story.pass(4)[0], "b| the reload was not answered in time: restarting");
    story.event("d", InstanceEvent::ReloadSent(None));
    assert_eq!(story.pass(4), [""; 0]);
    story.said("d", FromVassal::Reloaded);
    // An app that is down comes before those that are up.
    assert_eq!(touch(&mut story, "a")[1..], ["a: Reload"]);
    touch(&mut story, "d");
    story.died("b");
    assert_eq!(story.said("a", FromVassal::Reloaded)[1..], ["b: Spawn"]);
}

#[test]
fn a_reload_that_nobody_answers_becomes_a_restart() {
    let mut story = Story::new();
    story.run("a");
    story.event("a", Event::Changed("file changed"));
    story.no_address("a", "file changed");
    story.event("a", InstanceEvent::ReloadSent(None));
    assert_eq!(story.pass(4), [""; 0]);
    assert_eq!(story.pass(1), ["a| the reload was not answered in time: restarting", "a: AskToStop"]);
    let killed = ["a| not gone 5.0 s after the request to stop: killing pid 101", "a: Kill"];
    assert_eq!(story.pass(5), killed);
    assert_eq!(story.pass(10), ["a| not gone 10.0 s after SIGKILL: killing pid 101", "a: Kill"]);
    let effects = story.event(
        "a",
        InstanceEvent::Died { status: WaitStatus::Signaled(libc::SIGKILL), out_of_memory: false },
    );
    let why = "killed: not gone 5.0 s after the request to stop";
    assert_eq!(effects, [&format!("a| {why}; 15.0 s after the request; respawning now"), "a: Spawn"]);
}

#[test]
fn a_vassal_on_demand_is_created_for_the_first_client() {
    let mut story = Story::new();
    story.event("a", Event::Found { version: None, has_old_address: false, owner: None });
    let at = |text: &str| Event::Address { why: "x".to_owned(), address: Ok(Some(address(text))) };
    assert_eq!(story.event("a", at("/run/a")), ["a: Listen"]);
    let listening = || Event::Listening("/run/a".to_owned());
    assert_eq!(story.event("a", listening()), ["a| waiting for a connection to /run/a", "a: Poll"]);
    assert_eq!(story.event("a", Event::ListenFailed(failed("it"))), ["a| do it: no luck; next try in 2.0 s"]);
    assert_eq!(story.pass(2), ["a: Listen"]);
    story.event("a", listening());
    assert_eq!(story.event("a", Event::Connected), ["a| somebody connects: starting", "a: Spawn"]);
    story.spawned("a");
    story.said("a", FromVassal::Running);
    assert_eq!(story.event("a", Event::Connected), [""; 0], "nobody waits for that");
    story.now += Duration::from_secs(1);
    let leave = ["a| the app wants to be stopped: stopping until somebody connects", "a: AskToStop"];
    assert_eq!(story.said("a", FromVassal::Announced(Announcement::Leave)), leave);
    let effects = story.died("a");
    assert!(effects[0].ends_with("; waiting for the next connection"), "{effects:?}");
    assert_eq!(effects[1..], ["a: CloseSockets { for_good: false }", "a: Listen"]);
    // Held: clients are refused. Then no longer on demand.
    story.event("a", listening());
    assert_eq!(story.order(Order::Stop, "a").1, ["a| stop by command: stopped", "a: CloseDemand"]);
    story.order(Order::Start, "a").0.unwrap();
    story.spawned("a");
    story.event("a", Event::Changed("file changed"));
    let effects =
        story.event("a", Event::Address { why: "file changed".to_owned(), address: Err(failed("it")) });
    assert_eq!(effects[0], "a| do it: no luck: not on demand");
    assert_eq!(story.died("a").last().unwrap(), "a: Spawn");
}

#[test]
fn an_owner_has_no_more_vassals_than_the_emperor_allows() {
    let mut story = Story::new();
    let found = |story: &mut Story, name: &str, owner| {
        story.event(name, Event::Found { version: None, has_old_address: false, owner: Some(owner) })
    };
    for name in ["a", "b"] {
        assert_eq!(found(&mut story, name, 7), [find(name, "file is back")]);
        story.no_address(name, "file is back");
        story.spawned(name);
    }
    // It is logged once, and other vassals are not affected.
    let told = "c| /v/c.ini has to wait: user 7 has 2 vassals (emperor-tyrant-max); further files of the \
                user are not told of";
    assert_eq!(found(&mut story, "c", 7), [told]);
    for name in ["d", "e"] {
        assert_eq!(found(&mut story, name, 7), [""; 0]);
    }
    assert_eq!(story.event("d", Event::Changed("file changed")), [""; 0]);
    assert_eq!(story.event("e", Event::Removed("file removed")), [""; 0]);
    assert_eq!(found(&mut story, "f", 8), [find("f", "file is back")]);
    let line = "User 7 has as many vassals as emperor-tyrant-max allows: 2 files more\n";
    assert_eq!(story.registry.held_back(), line);
    // The next one starts when one has ended.
    story.event("a", Event::Removed("file removed"));
    let effects = story.died("a");
    assert!(effects.contains(&find("c", "")), "{effects:?}");
    assert!(story.registry.held_back().contains(": 1 file more"));
    story.event("c", Event::Removed("file removed"));
    assert!(story.registry.held_back().is_empty());
}

#[test]
fn no_vassal_puts_off_the_end_for_longer_than_the_emperor_grants() {
    let mut story = Story::new();
    for (name, seconds, last) in [("a", 180_000, 61), ("b", 3, 4)] {
        story.run(name);
        story.registry.end(false, story.now);
        assert!(story.effects().contains(&format!("{name}: AskToStop")));
        assert_eq!(story.said(name, FromVassal::Stopping(Duration::from_secs(seconds))), [""; 0]);
        let told = story.pass(last - 1);
        assert!(told.iter().all(|line| line.contains("| still stopping after ")), "{name}: {told:?}");
        assert!(story.pass(1).contains(&format!("{name}: Kill")), "{name}");
        story.died(name);
    }
}

#[test]
fn what_is_frozen_is_not_judged_by_the_time_that_it_could_not_use() {
    let mut story = Story::new();
    story.run("a");
    let beat = || FromVassal::Announced(Announcement::Heartbeat);
    assert_eq!(story.said("a", beat()), [""; 0]);
    story.frozen.push("a");
    for _ in 0..10 {
        assert_eq!(story.pass(15), [""; 0]);
    }
    // It goes on just before the next look, and is not killed before it could give a heartbeat.
    story.frozen.clear();
    assert_eq!(story.pass(15), [""; 0]);
    assert_eq!(story.pass(14), [""; 0]);
    assert_eq!(story.pass(1), ["a| the app has given no heartbeat for 30.0 s: killing pid 101", "a: Kill"]);
    // Nor does the time for the answer to a reload count.
    let mut story = Story::new();
    story.run("b");
    story.event("b", Event::Changed("file changed"));
    story.no_address("b", "file changed");
    story.event("b", InstanceEvent::ReloadSent(None));
    story.frozen.push("b");
    let told = vec!["b| still reloading after 5.0 s; it is given 5.0 s more".to_owned()];
    assert_eq!((story.pass(5), story.pass(5)), (told, vec![]));
    story.said("b", FromVassal::Reloading(Duration::from_secs(2)));
    assert_eq!((story.pass(4), story.pass(4)), (vec![], vec![]));
    story.frozen.clear();
    assert_eq!(story.pass(4)[0], "b| the reload was not answered in time: restarting");
}

#[test]
fn an_app_that_stops_to_give_heartbeats_is_killed_and_one_that_says_that_it_stops_is_not() {
    let mut story = Story::new();
    story.run("a");
    assert_eq!(story.registry.deadline(), None);
    let say = |story: &mut Story, announcement| story.said("a", FromVassal::Announced(announcement));
    assert_eq!(say(&mut story, Announcement::Heartbeat), [""; 0]);
    assert_eq!(story.pass(29), [""; 0]);
    assert_eq!(
        say(&mut story, Announcement::Stopping),
        ["a| the app is stopping by itself, 29.0 s after its start"]
    );
    assert_eq!(story.pass(3600), [""; 0]);
    assert_eq!(say(&mut story, Announcement::Heartbeat), [""; 0]);
    let killed = ["a| the app has given no heartbeat for 30.0 s: killing pid 101", "a: Kill"];
    assert_eq!(story.pass(15), [""; 0]);
    assert_eq!(story.pass(15), killed);
    let died = InstanceEvent::Died { status: WaitStatus::Signaled(libc::SIGKILL), out_of_memory: true };
    let effects = story.event("a", died);
    assert!(
        effects[0].starts_with("a| killed: the app has given no heartbeat for 30.0 s; up "),
        "{effects:?}"
    );
    // Others may send SIGKILL as well: the kernel, when memory is short.
    story.spawned("a");
    let died = InstanceEvent::Died { status: WaitStatus::Signaled(libc::SIGKILL), out_of_memory: true };
    let effects = story.event("a", died);
    assert!(effects[0].starts_with("a| vassal-init killed by SIGKILL: out of memory; "), "{effects:?}");
    // One that the emperor has killed is none of them.
    let counted = ENDS.into_iter().zip(story.registry.tally().ends).filter(|(_, count)| *count > 0);
    assert!(counted.eq([("out-of-memory", 1), ("killed", 1)]));
}

#[test]
fn what_an_app_announces_is_known_and_logged() {
    let mut story = Story::new();
    story.run("a");
    story.now += Duration::from_secs(2);
    let mut say = |announcement| story.said("a", FromVassal::Announced(announcement));
    assert_eq!(say(Announcement::Ready), ["a| ready to accept requests after 2.0 s"]);
    assert_eq!(say(Announcement::Loyal), ["a| loyal after 2.0 s"]);
    assert_eq!(say(Announcement::Status("busy".to_owned())), [""; 0]);
    let status = story.registry.statuses(story.now).remove(0);
    assert_eq!(
        (status.app.ready, status.app.loyal, status.app.status),
        (Some(story.now), Some(story.now), Some("busy"))
    );
    // From now on the order waits for it.
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Done);
    let reloading = story.said("a", FromVassal::Announced(Announcement::Reloading));
    assert_eq!(reloading, ["a| the app reloads itself, 2.0 s after its start"]);
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Pending);
    let stuck = story.said("a", FromVassal::Announced(Announcement::Stuck));
    assert_eq!(stuck, ["a| the app has triggered its watchdog: killing pid 101", "a: Kill"]);
    let mistake = InstanceEvent::LinkClosed(Some("sent 3 bytes that are no message".to_owned()));
    assert_eq!(story.event("a", mistake), ["a| sent 3 bytes that are no message: link closed"]);
}

#[test]
fn a_reload_of_all_leaves_out_what_is_on_its_way_out() {
    let mut story = Story::new();
    for name in ["a", "b", "c"] {
        story.run(name);
    }
    story.event("b", Event::Removed("file removed"));
    story.registry.reload_all();
    assert_eq!(story.effects(), [find("a", "reload"), find("c", "reload")]);
    assert_eq!(story.registry.summary(), "3 vassals: 2 running, 0 waiting to be tried again");
}

#[test]
fn a_process_that_has_ended_is_not_killed_while_what_it_has_left_is() {
    let mut story = Story::new();
    story.run("a");
    assert_eq!(story.event("a", InstanceEvent::LinkClosed(None)), [""; 0]);
    assert_eq!(story.event("a", InstanceEvent::Ended), [""; 0]);
    assert_eq!(story.pass(30), [""; 0]);
    for kill in [false, true] {
        story.registry.end(kill, story.now);
        assert_eq!(story.effects(), [""; 0]);
    }
    let effects =
        story.event("a", InstanceEvent::Died { status: WaitStatus::Signaled(9), out_of_memory: false });
    assert_eq!(effects[0], "a| vassal-init killed by SIGKILL without a reason; up 30.0 s; not respawned");
    assert!(story.registry.is_empty());
}

#[test]
fn everything_ends_and_what_cannot_be_killed_is_given_up() {
    let mut story = Story::new();
    story.run("a");
    story.event("b", Event::Found { version: None, has_old_address: false, owner: None });
    story.no_address("b", "");
    story.event("b", InstanceEvent::SpawnFailed(failed("it")));
    story.registry.end(false, story.now);
    assert_eq!(story.effects(), ["a: AskToStop", "b: Remove"]);
    let kill = ["a| not gone 5.0 s after the request to stop: killing pid 101", "a: Kill"];
    assert_eq!(story.pass(5), kill);
    assert_eq!(
        story.pass(10),
        ["a| pid 101 is stuck in the kernel: not gone 10.0 s after SIGKILL: given up", "a: Remove"]
    );
    assert!(story.registry.is_empty());
    assert_eq!(story.registry.given_up(), 1);
    // At the second request it kills at once.
    let mut story = Story::new();
    story.run("a");
    story.registry.end(true, story.now);
    assert_eq!(story.effects().last().unwrap(), "a: Kill");
    assert!(matches!(story.state("a"), State::Stopping { end: End::Killed, .. }));
}

#[test]
fn after_an_upgrade_only_a_file_that_has_changed_is_news() {
    let version = FileVersion { modified: 5, ..FileVersion::default() };
    let mut before = Story::new();
    for name in ["a", "b", "c", "d"] {
        before.run(name);
        before.event(name, Event::Reading(version));
    }
    let mut story = Story::new();
    for (file, vassal) in before.registry.vassals() {
        story.registry.take_over(file, Box::new(Vassal { is_unclaimed: true, ..vassal.clone() }), story.now);
    }
    assert_eq!(story.effects(), [""; 0]);
    assert_eq!(
        story.event("a", Event::Found { version: Some(version), has_old_address: false, owner: None }),
        [""; 0]
    );
    let other = FileVersion { modified: 6, ..version };
    assert_eq!(
        story.event("b", Event::Found { version: Some(other), has_old_address: false, owner: None }),
        [find("b", "file is back")]
    );
    assert_eq!(story.no_address("b", "file is back"), ["b| file is back: reloading", "b: Reload"]);
    let moved = Event::Found { version: Some(version), has_old_address: true, owner: None };
    assert_eq!(story.event("d", moved), [find("d", "its address may have changed")]);
    let unclaimed = story.registry.vassals().filter(|(_, vassal)| vassal.is_unclaimed());
    assert_eq!(unclaimed.count(), 1);
    let gone = "its directory is not watched any more";
    assert_eq!(story.event("c", Event::Removed(gone)), [&format!("c| {gone}: stopping"), "c: AskToStop"]);
    // It keeps its name, whatever name the new configuration gives to the path.
    let renamed = Rc::new(VassalFile::new("/v/a.ini".into(), 1));
    story.registry.apply(&renamed, Event::Changed("file changed"), story.now);
    assert_eq!(story.effects(), [find("a", "file changed")]);
}

/// The deadlines of all instances.
fn deadlines(story: &Story) -> impl Iterator<Item = Instant> {
    story.registry.vassals().flat_map(|(file, vassal)| {
        vassal.instances().iter().filter_map(|instance| vassal.deadline(instance, file, story.now))
    })
}

#[test]
fn an_app_that_ends_well_as_soon_as_it_is_started_is_asked_whether_it_stays() {
    let mut story = Story::new();
    for (name, seconds, status, hint) in
        [("a", 4, 0, ": does it go into the background?"), ("b", 5, 0, ""), ("c", 0, 1, "")]
    {
        story.run(name);
        story.said(name, FromVassal::Exiting(ExitReason::App(WaitStatus::Exited(status))));
        story.now += Duration::from_secs(seconds);
        let line = format!("{name}| app exited with status {status}{hint}; up ");
        assert!(story.died(name)[0].starts_with(&line), "{line}");
    }
    // It was asked to stop.
    story.run("d");
    story.order(Order::Stop, "d").0.unwrap();
    story.said("d", FromVassal::Exiting(ExitReason::App(WaitStatus::Exited(0))));
    assert!(story.died("d")[0].starts_with("d| app exited with status 0; "));
}

#[test]
fn what_was_told_to_read_its_configuration_again_has_to_stay_up_for_a_moment() {
    let mut story = Story::new();
    story.run("a");
    story.now += Duration::from_secs(60);
    story.event("a", Event::Changed("file changed"));
    story.no_address("a", "file changed");
    story.event("a", InstanceEvent::ReloadSent(None));
    assert_eq!(story.said("a", FromVassal::Reloaded), ["a| reloaded after 0.00 ms"]);
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Pending);
    story.now += Duration::from_secs(1);
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Done);
    let status = story.registry.statuses(story.now).remove(0);
    assert_eq!(status.uptime, Some(Duration::from_secs(61)));
}

#[test]
fn a_start_that_waits_for_the_same_file_at_two_looks_is_ended_and_one_that_is_to_stop_at_once() {
    let mut story = Story::new();
    let waits = |story: &mut Story, name: &str, what: &str| {
        story.event(name, InstanceEvent::Waits(Some(what.to_owned()).filter(|what| !what.is_empty())))
    };
    let said = |story: &Story, name: &str| {
        let all = story.registry.statuses_of(&[OsStr::new(name)], &|_| false, story.now).unwrap();
        all.first().unwrap().app.status.map(str::to_owned)
    };
    story.start("a");
    assert_eq!(story.pass(10), ["a: Look"]);
    assert_eq!(waits(&mut story, "a", ""), ["a| still setting up after 10.0 s"]);
    assert_eq!(story.pass(10), ["a: Look"]);
    assert_eq!(waits(&mut story, "a", "/x"), ["a| still setting up after 20.0 s: it waits for /x"]);
    assert_eq!(said(&story, "a").as_deref(), Some("waits for /x"));
    assert_eq!(story.pass(20), ["a: Look"]);
    assert_eq!(waits(&mut story, "a", "/y"), ["a| still setting up after 40.0 s: it waits for /y"]);
    assert_eq!(story.pass(40), ["a: Look"]);
    let why = "PID 1 waits for /y, whose filesystem does not answer";
    assert_eq!(waits(&mut story, "a", "/y"), [&format!("a| {why}: killing pid 101"), "a: Kill"]);
    let line = format!("a| killed: {why}; 80.0 s after its start, never ran; next try in 2.0 s");
    assert_eq!(story.died("a")[0], line);

    // It waits for another answer of the same filesystem when it is looked at.
    story.start("d");
    story.pass(10);
    waits(&mut story, "d", "/y");
    assert_eq!(story.pass(10), ["d: Look"]);
    assert_eq!(waits(&mut story, "d", ""), [""; 0]);
    assert_eq!(story.pass(1), ["d: Look"]);
    assert_eq!(waits(&mut story, "d", "/y"), [&format!("d| {why}: killing pid 102"), "d: Kill"]);
    story.start("e");
    story.pass(10);
    waits(&mut story, "e", "/y");
    story.pass(10);
    waits(&mut story, "e", "");
    assert_eq!(story.pass(1), ["e: Look"]);
    assert_eq!(waits(&mut story, "e", ""), ["e| still setting up after 21.0 s"]);
    assert_eq!(said(&story, "e"), None);

    story.start("b");
    story.pass(10);
    waits(&mut story, "b", "/x");
    let (_, effects) = story.order(Order::Stop, "b");
    assert_eq!(effects[1..], [format!("b| {}: killing pid 104", why.replace("/y", "/x")), "b: Kill".into()]);
    // The event that it waited for has come.
    story.start("c");
    story.pass(10);
    waits(&mut story, "c", "/x");
    story.said("c", FromVassal::Running);
    assert_eq!(said(&story, "c"), None);
    assert_eq!(story.order(Order::Stop, "c").1.last().unwrap(), "c: AskToStop");
    assert_eq!(waits(&mut story, "c", "/x"), [""; 0]);
}

#[test]
fn a_reload_is_done_when_the_app_has_been_ready_for_a_moment() {
    for is_good in [true, false] {
        let mut story = Story::new();
        story.run("a");
        story.said("a", FromVassal::Announced(Announcement::Ready));
        story.pass(60);
        story.order(Order::Reload, "a").0.unwrap();
        story.no_address("a", "reload by command");
        story.event("a", InstanceEvent::ReloadSent(None));
        story.said("a", FromVassal::Reloading(Duration::from_secs(1)));
        story.said("a", FromVassal::Reloaded);
        story.said("a", FromVassal::Announced(Announcement::Ready));
        let outcomes = |story: &Story| [Order::Reload, Order::Start].map(|order| story.outcome(order, "a"));
        assert_eq!(outcomes(&story), [Outcome::Pending, Outcome::Done]);
        if is_good {
            story.pass(1);
            assert_eq!(outcomes(&story), [Outcome::Done; 2]);
        } else {
            story.said("a", FromVassal::Exiting(ExitReason::App(WaitStatus::Exited(3))));
            story.died("a");
            assert_eq!(outcomes(&story), [Outcome::Failed; 2]);
        }
    }
}

/// The default for vassals with several instances.
fn rolling(replicas: u16) -> Replication {
    Replication { replicas, is_rolling: true, ..Replication::default() }
}

/// A vassal that wants so many instances is found, and all of them run.
fn run_set(story: &mut Story, replicas: u16) {
    story.start("a");
    story.said("a", FromVassal::Replication(rolling(replicas)));
    let effects = story.said("a", FromVassal::Running);
    let others: Vec<_> = (2..=replicas).map(|number| format!("a#{number}: Spawn")).collect();
    // As many as may set up at a time.
    assert_eq!(effects[1..], others[..others.len().min(3)]);
    for number in 2..=replicas {
        run_one(story, number, rolling(replicas));
    }
    assert_eq!(story.pass(1), [""; 0], "they are ready");
}

#[test]
fn of_several_that_need_a_fresh_jail_one_starts_before_the_others_whenever_they_say_so() {
    let mut story = Story::new();
    let recreate = Replication { is_rolling: false, ..rolling(3) };
    story.start("a");
    story.said("a", FromVassal::Replication(recreate));
    story.said("a", FromVassal::Running);
    for number in 2..=3 {
        run_one(&mut story, number, recreate);
    }
    story.event("a", Event::Changed("file changed"));
    story.no_address("a", "file changed");
    for name in ["a", "a#2", "a#3"] {
        story.event(name, InstanceEvent::ReloadSent(None));
    }
    let needs = |story: &mut Story, name: &str| {
        let why = || "a socket changed".to_owned();
        story.said(name, FromVassal::NeedsRespawn(why()));
        story.event(name, InstanceEvent::CheckBegun(Duration::from_secs(11)));
        story.event(name, InstanceEvent::Checked(Answer::NeedsRespawn, why()));
    };
    needs(&mut story, "a#2");
    needs(&mut story, "a");
    // The third one has not answered yet.
    let starts = |effects: Vec<String>| effects.iter().filter(|effect| effect.contains("Spawn")).count();
    assert_eq!(starts(story.died("a")), 0);
    assert_eq!(story.died("a#2").last().unwrap(), "a#2: Spawn");
    needs(&mut story, "a#3");
    assert_eq!(starts(story.died("a#3")), 0);
    story.spawned("a#2");
    story.said("a#2", FromVassal::Replication(recreate));
    assert_eq!(starts(story.said("a#2", FromVassal::Running)), 2);
}

/// An instance is created, and its app runs.
fn run_one(story: &mut Story, number: u16, replication: Replication) -> Vec<String> {
    let name = format!("a#{number}");
    story.spawned(&name);
    story.said(&name, FromVassal::Replication(replication));
    story.said(&name, FromVassal::Running)
}

/// The file of the vassal has changed. Returns the effects.
fn touch(story: &mut Story) -> Vec<String> {
    story.event("a", Event::Changed("file changed"));
    story.no_address("a", "file changed")
}

fn id_name(number: u16) -> String {
    if number == FIRST { "a".to_owned() } else { format!("a#{number}") }
}

fn numbers(story: &Story) -> Vec<u16> {
    story.registry.vassal(&file("a")).unwrap().instances().iter().map(Instance::number).collect()
}

const ROLLS: &str = "a/1| file changed: starting with the new file beside the present one";
const TAKES_OVER: &str = "takes over 1.0 s after its start";
const CHANGED: &str = "a/3| stopping: a later reload replaces it";
const TAKEN: &str = "stopping: another one has taken its place";

#[test]
fn a_rolling_reload_stops_an_old_instance_for_each_new_one_that_is_ready() {
    let mut story = Story::new();
    run_set(&mut story, 2);
    assert_eq!(touch(&mut story), [&ROLLS.replace("/1", ""), "a#3: Spawn"]);
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Pending);
    assert_eq!(run_one(&mut story, 3, rolling(2)), ["a/3| running after 0.00 ms"]);
    let stops = |number: u16, old: u16| {
        [
            format!("a/{number}| {TAKES_OVER}"),
            format!("{}: TakeOver", id_name(number)),
            format!("a/{old}| {TAKEN}"),
            format!("{}: AskToStop", id_name(old)),
        ]
    };
    assert_eq!(story.pass(1), stops(3, 2));
    // The next one waits until the number is free.
    let effects = story.died("a#2");
    let why = "vassal-init exited with status 0 without a reason";
    assert_eq!(effects, [&format!("a/2| {why}; 0.00 ms after the request; not respawned"), "a#2: Spawn"]);
    run_one(&mut story, 2, rolling(2));
    assert_eq!(story.pass(1), stops(2, 1));
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Pending);
    assert_eq!(story.died("a#1").len(), 1);
    assert_eq!((numbers(&story), story.outcome(Order::Reload, "a")), (vec![3, 2], Outcome::Done));
    // Its history goes on.
    let restarts = |status: &Status<'_>| (status.history.restarts(), status.history.reloads);
    assert_eq!(story.registry.statuses(story.now).iter().map(restarts).collect::<Vec<_>>(), [(0, 1); 2]);
    assert_eq!(story.pass(60), [""; 0]);
}

#[test]
fn a_roll_that_does_not_work_is_told_of_as_one_until_the_file_counts_again() {
    let mut story = Story::new();
    run_set(&mut story, 1);
    story.registry.roll_all(story.now);
    story.effects();
    let why = story.event("a#2", InstanceEvent::SpawnFailed(failed("it"))).pop().unwrap();
    assert_eq!(why, "a/2| roll refused: do it: no luck; still with the vassal-init of before: 1 instance");
    let status = |story: &Story| {
        let all = story.registry.statuses(story.now);
        (all[0].problem, all[0].next_start().is_some_and(|next| next.contains("vassal-init")))
    };
    assert_eq!(status(&story), (Some("roll refused"), true));
    touch(&mut story);
    let why = story.event("a#2", InstanceEvent::SpawnFailed(failed("it"))).pop().unwrap();
    assert_eq!(why, "a/2| reload refused: do it: no luck; still with the file of before: 1 instance");
    assert_eq!(status(&story), (Some("reload refused"), false));
}

#[test]
fn a_new_file_that_does_not_work_stops_nobody() {
    let mut story = Story::new();
    run_set(&mut story, 1);
    touch(&mut story);
    story.spawned("a#2");
    story.said("a#2", FromVassal::Exiting(ExitReason::Config("a.ini:3:1: unknown".to_owned())));
    let why = "invalid configuration: a.ini:3:1: unknown";
    let goes_on = "still with the file of before: 1 instance";
    assert_eq!(
        story.died("a#2"),
        [
            format!("a/2| {why}; 0.00 ms after its start, never ran"),
            format!("a/2| reload refused: {why}; {goes_on}")
        ]
    );
    assert_eq!((numbers(&story), story.outcome(Order::Reload, "a")), (vec![1], Outcome::Failed));
    assert_eq!(
        story.registry.statuses(story.now)[0].refused.map(|it| (it.why, it.is_roll)),
        Some((why, false))
    );
    // One that cannot be created, that does not get ready, or that ends a moment too early.
    touch(&mut story);
    assert_eq!(story.event("a#2", InstanceEvent::SpawnFailed(failed("it"))).len(), 2);
    touch(&mut story);
    let says_ready = Replication { says_ready: true, ready_timeout: Duration::from_secs(5), ..rolling(1) };
    run_one(&mut story, 2, says_ready);
    let why = "not ready after 5.0 s (ready-timeout)";
    assert_eq!(
        (story.pass(4), story.pass(1)),
        (vec![], vec![format!("a/2| reload refused: {why}; {goes_on}"), "a#2: AskToStop".to_owned(),])
    );
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Pending, "it is still ending");
    story.died("a#2");
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Failed);
    touch(&mut story);
    run_one(&mut story, 2, rolling(1));
    assert_eq!(story.died("a#2").len(), 2);
    // The next change tries again.
    touch(&mut story);
    run_one(&mut story, 2, rolling(1));
    assert_eq!(story.pass(1).last().unwrap(), "a: AskToStop");
    story.died("a#1");
    assert_eq!((numbers(&story), story.outcome(Order::Reload, "a")), (vec![2], Outcome::Done));
    assert!(story.registry.statuses(story.now)[0].refused.is_none());
}

#[test]
fn an_app_that_says_that_it_is_ready_has_to_stay_up_before_another_one_is_stopped() {
    for replicas in 1..=2 {
        let mut story = Story::new();
        run_set(&mut story, replicas);
        let says = |story: &mut Story, number: u16, what| {
            story.said(&id_name(number), FromVassal::Announced(what));
        };
        (1..=replicas).for_each(|number| says(&mut story, number, Announcement::Ready));
        // It ends a moment later.
        let (new, name) = (replicas + 1, id_name(replicas + 1));
        touch(&mut story);
        run_one(&mut story, new, rolling(replicas));
        story.pass(59);
        says(&mut story, new, Announcement::Ready);
        assert_eq!((story.pass(0), story.outcome(Order::Reload, "a")), (vec![], Outcome::Pending));
        assert!(story.died(&name)[1].contains("reload refused: "));
        assert_eq!(
            (numbers(&story).len(), story.outcome(Order::Reload, "a")),
            (replicas.into(), Outcome::Failed)
        );
        // It begins anew and ends; and at last it stays, though it was ready in the last moment.
        touch(&mut story);
        run_one(&mut story, new, rolling(replicas));
        story.pass(59);
        says(&mut story, new, Announcement::Ready);
        says(&mut story, new, Announcement::Reloading);
        assert!(story.pass(1)[0].contains("not ready after 60.0 s (ready-timeout)"));
        story.died(&name);
        touch(&mut story);
        run_one(&mut story, new, rolling(replicas));
        story.now += Duration::from_millis(59_500);
        says(&mut story, new, Announcement::Ready);
        story.now -= Duration::from_millis(500);
        assert_eq!(story.pass(1), [""; 0], "its time is over, but it has become ready");
        story.now += Duration::from_millis(500);
        assert!(story.pass(0)[0].ends_with("takes over 60.5 s after its start"));
        // One that comes back meanwhile has to stay up as well.
        if replicas == 2 {
            story.died("a#2");
            run_one(&mut story, 2, rolling(replicas));
            story.died("a#3");
            run_one(&mut story, 3, rolling(replicas));
            story.pass(5);
            says(&mut story, 2, Announcement::Ready);
            says(&mut story, 3, Announcement::Ready);
            assert_eq!(story.pass(0), [""; 0]);
            assert!(story.pass(1).contains(&"a: AskToStop".to_owned()));
        }
    }
}

#[test]
fn only_an_instance_that_stays_ready_to_the_last_moment_takes_over() {
    use Announcement::{Ready, Reloading};
    let status = || Announcement::Status("at work".to_owned());
    let begin = || {
        let mut story = Story::new();
        run_set(&mut story, 1);
        story.said("a", FromVassal::Announced(Ready));
        touch(&mut story);
        let timeout = Replication { ready_timeout: Duration::from_secs(5), ..rolling(1) };
        run_one(&mut story, 2, timeout);
        story
    };
    let says = |story: &mut Story, what| story.said("a#2", FromVassal::Announced(what));
    let after = |story: &mut Story, millis: u64| {
        story.now += Duration::from_millis(millis);
        story.pass(0)
    };
    let takes_over = |effects: &[String]| effects.iter().any(|line| line.contains("takes over"));
    // What it is doing is no other word.
    let mut story = begin();
    says(&mut story, Ready);
    assert_eq!(after(&mut story, 500), [""; 0]);
    says(&mut story, status());
    assert!(takes_over(&after(&mut story, 500)));
    // It ends in the moment in which it would take over.
    let mut story = begin();
    says(&mut story, Ready);
    story.now += Duration::from_secs(1);
    let effects = story.died("a#2");
    assert!(effects[1].contains("reload refused: ") && !takes_over(&effects), "{effects:?}");
    // Its check fails meanwhile.
    let mut story = begin();
    says(&mut story, Ready);
    after(&mut story, 900);
    assert_eq!(story.said("a#2", FromVassal::Unready), ["a#2: GiveUp"]);
    assert!(!takes_over(&after(&mut story, 100)));
    assert!(story.died("a#2")[1].contains("reload refused: "));
    assert_eq!(numbers(&story), [1]);
    // It begins anew again and again: it has its time, and no more.
    let mut story = begin();
    let mut effects = Vec::new();
    while effects.is_empty() {
        says(&mut story, Ready);
        effects = after(&mut story, 700);
        says(&mut story, Reloading);
        effects.extend(after(&mut story, 0));
    }
    assert!(effects[0].contains("reload refused: not ready after 5.0 s"), "{effects:?}");
    // The file changes three times, and a command stops all.
    let mut story = begin();
    for _ in 0..3 {
        says(&mut story, Ready);
        assert!(!takes_over(&after(&mut story, 600)));
        assert!(touch(&mut story).contains(&"a#2: AskToStop".to_owned()));
        assert!(!takes_over(&after(&mut story, 600)));
        assert_eq!(story.died("a#2")[1..], ["a#2: Spawn"]);
        run_one(&mut story, 2, rolling(1));
    }
    says(&mut story, Ready);
    after(&mut story, 600);
    story.order(Order::Stop, "a").0.unwrap();
    assert!(!takes_over(&after(&mut story, 600)));
    story.died("a#2");
    story.died("a");
    assert_eq!((numbers(&story), story.state("a")), (vec![1], State::Held));
}

#[test]
fn a_replica_that_comes_back_with_a_refused_file_costs_the_others_nothing() {
    let mut story = Story::new();
    run_set(&mut story, 2);
    let timeout = Duration::from_secs(5);
    let never_ready = Replication { says_ready: true, ready_timeout: timeout, ..rolling(1) };
    touch(&mut story);
    run_one(&mut story, 3, never_ready);
    story.pass(5);
    story.died("a#3");
    // It crashes, and has the file that was refused, which wants only one.
    let effects = story.died("a#1");
    assert!(effects[0].ends_with("respawning now with the file that was refused"), "{effects:?}");
    assert_eq!(effects[1], "a: Spawn");
    assert_eq!(run_one(&mut story, 1, never_ready), ["a/1| running after 0.00 ms"]);
    assert_eq!((numbers(&story), story.pass(4)), (vec![1, 2], vec![]));
    let given_up = "not ready after 5.0 s (ready-timeout) with what was not taken: stopping until its file \
                    changes, or 'emperor start'";
    assert_eq!(story.pass(1), [&format!("a/1| {given_up}"), "a: AskToStop"]);
    story.died("a#1");
    assert_eq!((story.state("a"), story.pass(600)), (State::Idle, vec![]));
    // The last good one crashes as well: there is nothing better then.
    story.died("a#2");
    run_one(&mut story, 2, never_ready);
    assert_eq!(story.pass(5), ["a/1| stopping: fewer are wanted"]);
    assert_eq!((numbers(&story), story.pass(600)), (vec![2], vec![]));
}

/// A set as that of [`run_set`], which tells what it is made of. Its file has changed since, an instance is
/// on trial that does not become ready in five seconds, and so many have passed.
fn refuse(story: &mut Story, replicas: u16, seconds: u64) -> Replication {
    let ready_timeout = Duration::from_secs(5);
    let never_ready = Replication { says_ready: true, ready_timeout, ..rolling(9) };
    story.tells = true;
    run_set(story, replicas);
    let version = FileVersion { modified: 2000, ..FileVersion::default() };
    story.event("a", Event::Reading(version));
    touch(story);
    run_one(story, replicas + 1, never_ready);
    story.pass(seconds);
    never_ready
}

#[test]
fn an_instance_that_is_lost_after_a_refused_reload_comes_back_with_the_file_of_before() {
    for replicas in 1..=2 {
        let mut story = Story::new();
        let never_ready = refuse(&mut story, replicas, 5);
        let (new, last) = (id_name(replicas + 1), id_name(replicas));
        story.died(&new);
        let goes_back = |story: &Story| {
            let status = story.registry.statuses(story.now).remove(0);
            (status.next_start(), status.runs_with(), status.refused.is_some())
        };
        assert_eq!(goes_back(&story), (Some("with the file of before"), Some(0), true));
        for _ in 0..3 {
            let effects = story.died(&last);
            assert!(effects[0].ends_with("; respawning now with the file of before"), "{effects:?}");
            assert_eq!(effects[1..], [format!("{last}: Spawn")]);
            let line = "it was started with the file of before, as the reload was refused: not ready after";
            assert!(story.spawned(&last)[1].contains(line));
            story.said(&last, FromVassal::Replication(rolling(replicas)));
            story.said(&last, FromVassal::Running);
            assert_eq!(goes_back(&story), (Some("with the file of before"), Some(0), true));
            assert_eq!((story.pass(40), numbers(&story).len()), (vec![], replicas.into()));
        }
        // It does not come back at once, and is asked for meanwhile.
        story.died(&last);
        run_one(&mut story, replicas, rolling(replicas));
        story.said(&last, FromVassal::Exiting(ExitReason::App(WaitStatus::Exited(1))));
        assert!(story.died(&last)[0].contains("next try in"));
        story.registry.clear_backoffs(story.now);
        assert_eq!(story.effects(), [format!("{last}: Spawn")]);
        run_one(&mut story, replicas, rolling(replicas));
        story.pass(2);
        // The next change tries again, and what works is what counts then.
        touch(&mut story);
        run_one(&mut story, replicas + 1, never_ready);
        story.pass(1);
        assert!(!goes_back(&story).2);
        story.said(&new, FromVassal::Announced(Announcement::Ready));
        assert!(story.pass(1)[0].contains("takes over"));
        assert_eq!(goes_back(&story).1, None);
        let proven = story.registry.vassal(&file("a")).unwrap().proven.clone().unwrap();
        assert_eq!((proven.file.modified, proven.is_of_before), (2000, false));
    }
}

#[test]
fn one_that_is_lost_during_a_trial_comes_back_with_the_file_of_before() {
    for is_good in [false, true] {
        for fails_at_once in [false, true] {
            let mut story = Story::new();
            refuse(&mut story, 1, 1);
            if fails_at_once {
                story.now -= Duration::from_millis(1500);
            }
            let effects = story.died("a");
            assert!(effects[0].ends_with(" with the file of before"), "{effects:?}");
            if fails_at_once {
                assert_eq!((numbers(&story), effects.len()), (vec![1, 2], 1), "it has its next try");
                assert_eq!(story.pass(2), ["a: Spawn"]);
            }
            let line = "a/1| it was started with the file of before, as the new one is on trial";
            assert_eq!(story.spawned("a")[1], line);
            story.said("a", FromVassal::Replication(rolling(1)));
            story.said("a", FromVassal::Running);
            if is_good {
                let one = Replication { says_ready: true, ..rolling(1) };
                story.said("a#2", FromVassal::Replication(one));
                story.said("a#2", FromVassal::Announced(Announcement::Ready));
                let effects = story.pass(1);
                assert!(effects.contains(&"a: AskToStop".to_owned()), "{effects:?}");
                story.died("a");
                assert_eq!(numbers(&story), [2]);
            } else {
                assert!(story.pass(5)[0].starts_with("a/2| reload refused: not ready after 5.0 s"));
                story.died("a#2");
                assert_eq!(
                    (numbers(&story), story.registry.vassal(&file("a")).unwrap().is_running()),
                    (vec![1], true)
                );
            }
        }
    }
}

#[test]
fn a_file_that_changes_while_the_only_instance_is_away_is_on_trial_as_well() {
    let mut story = Story::new();
    story.tells = true;
    run_set(&mut story, 1);
    story.died("a");
    assert_eq!(touch(&mut story), [&ROLLS.replace("/1", ""), "a#2: Spawn"]);
    // Neither has a process yet.
    assert!(story.spawned("a")[1].ends_with("as the new one is on trial"));
    story.said("a", FromVassal::Running);
    story.spawned("a#2");
    assert!(story.died("a#2")[1].contains("reload refused: "));
    assert_eq!((numbers(&story), story.outcome(Order::Reload, "a")), (vec![1], Outcome::Failed));
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Pending);
    story.pass(1);
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Done);
}

#[test]
fn nothing_goes_back_that_was_stopped_belongs_to_another_user_or_rolls_no_more() {
    let refused = || {
        let mut story = Story::new();
        refuse(&mut story, 1, 5);
        story.died("a#2");
        assert!(story.registry.proven(&id("a")).is_some());
        story
    };
    // What a command stops starts with the file as it is.
    let mut story = refused();
    story.order(Order::Stop, "a").0.unwrap();
    story.died("a");
    story.order(Order::Start, "a").0.unwrap();
    assert!(story.spawned("a")[1].contains("with the file whose reload was refused"));
    // Another user's file.
    let mut story = refused();
    story.registry.note_owner(&file("a"), Some(OWNER.uid + 1));
    assert!(story.registry.proven(&id("a")).is_none());
    // Its instances take each other's place no more.
    let mut story = refused();
    touch(&mut story);
    run_one(&mut story, 2, Replication::default());
    story.pass(1);
    story.died("a");
    assert!(story.registry.vassal(&file("a")).unwrap().proven.is_none());
    // What is too late to be PID 1's own word, or is said twice.
    let mut story = Story::new();
    story.tells = true;
    story.start("a");
    let tells = |story: &mut Story, text: &[u8]| story.event("a", InstanceEvent::Transcript(text.to_vec()));
    tells(&mut story, b"second");
    story.said("a", FromVassal::Replication(rolling(1)));
    story.said("a", FromVassal::Running);
    tells(&mut story, b"third");
    story.pass(1);
    let proven = |story: &Story| story.registry.vassal(&file("a")).unwrap().proven.clone();
    assert_eq!(&*proven(&story).unwrap().text, b"101");
    let mut story = Story::new();
    story.start("a");
    story.said("a", FromVassal::Replication(rolling(1)));
    tells(&mut story, b"late");
    story.said("a", FromVassal::Running);
    story.pass(1);
    assert_eq!(proven(&story), None);
}

#[test]
fn a_file_that_changes_during_a_rolling_reload_is_the_one_that_counts() {
    let mut story = Story::new();
    run_set(&mut story, 2);
    touch(&mut story);
    run_one(&mut story, 3, rolling(2));
    let effects = touch(&mut story);
    assert_eq!(effects[1..], [CHANGED, "a#3: AskToStop"]);
    assert_eq!(story.died("a#3")[1..], ["a#3: Spawn"]);
    // Once more, while it sets up or waits for its turn.
    assert_eq!(
        touch(&mut story)[1..],
        [
            CHANGED.to_owned(),
            "a#3: ForgetFile".to_owned(),
            "a: ForgetSocket".to_owned(),
            "a#3: Spawn".to_owned()
        ]
    );
    run_one(&mut story, 3, rolling(2));
    story.pass(1);
    // One of the first file is left, and one of the third.
    touch(&mut story);
    story.died("a#2");
    assert_eq!(numbers(&story), [1, 3, 2]);
    run_one(&mut story, 2, rolling(2));
    assert_eq!(story.pass(1).last().unwrap(), "a#3: AskToStop");
}

#[test]
fn one_that_is_lost_comes_back_by_itself_and_the_others_keep_the_sockets() {
    let mut story = Story::new();
    run_set(&mut story, 2);
    story.said("a#2", FromVassal::Exiting(ExitReason::MountLost("mountpoint /x lost".to_owned())));
    let effects = story.died("a#2");
    assert_eq!(effects, ["a/2| mountpoint /x lost; up 1.0 s; respawning now", "a#2: Spawn"]);
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Done, "one is up");
    assert_eq!(story.outcome(Order::Reload, "a"), Outcome::Pending);
    run_one(&mut story, 2, rolling(2));
    // Both at once: the sockets are kept for as long as one is back soon.
    story.pass(1);
    story.died("a#1");
    assert!(!story.died("a#2").iter().any(|effect| effect.contains("CloseSockets")));
}

#[test]
fn the_first_one_binds_the_sockets_whenever_none_is_left() {
    let mut story = Story::new();
    run_set(&mut story, 3);
    story.order(Order::Stop, "a").0.unwrap();
    story.died("a#1");
    story.died("a#2");
    let effects = story.died("a#3");
    assert_eq!(effects[1..3], ["a: CloseSockets { for_good: false }", "a: CloseDemand"]);
    assert_eq!((numbers(&story), story.state("a")), (vec![1], State::Held));
    assert_eq!(story.order(Order::Start, "a").1[1..], ["a: Spawn"]);
    story.spawned("a");
    story.said("a", FromVassal::Replication(rolling(3)));
    assert_eq!(story.said("a", FromVassal::Running)[1..], ["a#2: Spawn", "a#3: Spawn"]);
}

#[test]
fn as_many_instances_run_as_the_file_says() {
    let mut story = Story::new();
    run_set(&mut story, 2);
    // More, while one of the present ones fails.
    story.said("a#2", FromVassal::Exiting(ExitReason::App(WaitStatus::Exited(1))));
    story.now -= Duration::from_millis(500);
    story.died("a#2");
    touch(&mut story);
    assert_eq!(numbers(&story), [1, 2], "the one that is down is replaced");
    run_one(&mut story, 2, rolling(4));
    assert_eq!(story.pass(1), [&format!("a/2| {TAKES_OVER}"), "a#2: TakeOver", "a#3: Spawn"]);
    run_one(&mut story, 3, rolling(4));
    story.pass(1);
    run_one(&mut story, 4, rolling(4));
    story.pass(1);
    run_one(&mut story, 5, rolling(4));
    assert_eq!(story.pass(1).last().unwrap(), "a: AskToStop");
    story.died("a#1");
    assert_eq!(numbers(&story), [2, 3, 4, 5]);
    // Fewer.
    touch(&mut story);
    run_one(&mut story, 1, rolling(1));
    let effects = story.pass(1);
    let stopped = effects.iter().filter(|effect| effect.contains("AskToStop")).count();
    assert_eq!(stopped, 4, "{effects:?}");
    for number in 2..=5 {
        story.died(&format!("a#{number}"));
    }
    assert_eq!(numbers(&story), [1]);
    // None of it in a reload in place.
    touch(&mut story);
    run_one(&mut story, 2, Replication::default());
    story.pass(1);
    story.died("a#1");
    assert_eq!(touch(&mut story), ["a| file changed: reloading", "a#2: Reload"]);
    story.said("a#2", FromVassal::Replication(rolling(2)));
    assert_eq!(story.said("a#2", FromVassal::Reloaded)[1..], ["a: Spawn"]);
}

#[test]
fn one_that_waits_for_its_next_try_is_the_first_to_go_where_fewer_are_wanted() {
    let mut story = Story::new();
    run_set(&mut story, 3);
    story.said("a#1", FromVassal::Exiting(ExitReason::App(WaitStatus::Exited(1))));
    story.now -= Duration::from_millis(500);
    story.died("a#1");
    assert!(matches!(story.state("a"), State::Backoff { .. }));
    // It would come back with the new file, beside the one that is on trial for it.
    touch(&mut story);
    assert_eq!(numbers(&story), [2, 3, 1]);
    run_one(&mut story, 1, rolling(2));
    let taken = [&format!("a/1| {TAKES_OVER}"), "a: TakeOver", &format!("a/3| {TAKEN}"), "a#3: AskToStop"];
    assert_eq!(story.pass(1), taken);
    story.died("a#3");
    run_one(&mut story, 3, rolling(2));
    story.pass(1);
    story.died("a#2");
    assert_eq!(numbers(&story), [1, 3]);
    // Likewise without a rolling reload.
    story.said("a#3", FromVassal::Exiting(ExitReason::App(WaitStatus::Exited(1))));
    story.now -= Duration::from_millis(1500);
    story.died("a#3");
    assert!(matches!(story.state("a#3"), State::Backoff { .. }));
    story.said("a#1", FromVassal::Replication(rolling(1)));
    story.said("a#1", FromVassal::Running);
    assert_eq!(numbers(&story), [1]);
    assert_eq!(story.pass(100), [""; 0]);
}

#[test]
fn an_order_or_the_end_of_the_file_is_for_all_instances() {
    let mut story = Story::new();
    run_set(&mut story, 2);
    touch(&mut story);
    run_one(&mut story, 3, rolling(2));
    // What is on trial is not one of the vassal's.
    let (_, effects) = story.order(Order::Stop, "a");
    assert_eq!(effects[1..], ["a#3: AskToStop", "a: AskToStop", "a#2: AskToStop"]);
    for number in 1..=3 {
        assert_eq!(story.outcome(Order::Stop, "a"), Outcome::Pending);
        story.died(&format!("a#{number}"));
    }
    assert_eq!((numbers(&story), story.outcome(Order::Stop, "a")), (vec![1], Outcome::Done));
    let mut story = Story::new();
    run_set(&mut story, 2);
    touch(&mut story);
    story.spawned("a#3");
    let effects = story.event("a", Event::Removed("file removed"));
    assert_eq!(effects[1..], ["a: AskToStop", "a#2: AskToStop", "a#3: AskToStop"]);
    story.died("a#1");
    story.died("a#3");
    assert_eq!(story.died("a#2").last().unwrap(), "a: Remove");
    assert!(story.registry.is_empty() && story.registry.deadline().is_none());
}

#[test]
fn on_demand_all_instances_start_with_the_first_client() {
    let mut story = Story::new();
    story.event("a", Event::Found { version: None, has_old_address: false, owner: None });
    let there = Ok(Some(address("/run/x")));
    assert_eq!(story.event("a", Event::Address { why: String::new(), address: there }), ["a: Listen"]);
    story.event("a", Event::Connected);
    run_one(&mut story, 1, rolling(2));
    run_one(&mut story, 2, rolling(2));
    story.pass(1);
    // One that ends is back at once, as the others accept the clients that it would wait for.
    assert_eq!(story.died("a#2")[1..], ["a#2: Spawn"]);
    run_one(&mut story, 2, rolling(2));
    story.pass(1);
    story.said("a#1", FromVassal::Announced(Announcement::Leave));
    story.said("a#2", FromVassal::Announced(Announcement::Leave));
    story.died("a#1");
    let effects = story.died("a#2");
    assert!(effects.contains(&"a: Listen".to_owned()), "{effects:?}");
    assert_eq!((numbers(&story).len(), story.registry.vassal(&file("a")).unwrap().is_waiting()), (1, true));
}

#[test]
fn on_demand_apps_that_end_together_all_come_back() {
    let mut story = Story::with_starts(1);
    story.event("a", Event::Found { version: None, has_old_address: false, owner: None });
    let there = Ok(Some(address("/run/x")));
    story.event("a", Event::Address { why: String::new(), address: there });
    story.event("a", Event::Connected);
    run_one(&mut story, 1, rolling(2));
    run_one(&mut story, 2, rolling(2));
    story.pass(1);
    // The first one has no process yet when the second one ends.
    story.died("a#1");
    assert_eq!(story.died("a#2").len(), 1);
    assert!(story.registry.vassal(&file("a")).unwrap().instances().iter().all(Instance::lacks_process));
}

#[test]
fn an_instance_that_does_not_end_keeps_no_later_file_from_being_rolled_out() {
    let mut story = Story::new();
    run_set(&mut story, 1);
    touch(&mut story);
    run_one(&mut story, 2, rolling(1));
    assert_eq!(story.pass(1).last().unwrap(), "a: AskToStop");
    // It is waited for, as its number is used again.
    assert_eq!(touch(&mut story).len(), 1);
    story.said("a", FromVassal::Stopping(Duration::from_secs(60)));
    let told = vec!["a/1| still stopping after 9.0 s; it is given 52.0 s more".to_owned()];
    assert_eq!((story.pass(9), story.pass(1)), (told, vec!["a#3: Spawn".to_owned()]));
    // Nor do processes that it has left behind.
    let mut story = Story::new();
    run_set(&mut story, 1);
    touch(&mut story);
    run_one(&mut story, 2, rolling(1));
    story.pass(1);
    touch(&mut story);
    story.event("a", InstanceEvent::Ended);
    assert_eq!((story.pass(9), story.pass(1)), (vec![], vec!["a#3: Spawn".to_owned()]));
}

#[test]
fn an_old_instance_that_crashes_during_a_rolling_reload_comes_back() {
    let mut story = Story::new();
    run_set(&mut story, 2);
    touch(&mut story);
    run_one(&mut story, 3, rolling(2));
    assert_eq!(story.event("a#2", InstanceEvent::LinkClosed(None)), [""; 0]);
    let effects = story.died("a#2");
    assert!(effects[0].ends_with("respawning now") && effects[1] == "a#2: Spawn", "{effects:?}");
    // Also if it is the only old one.
    let mut story = Story::new();
    run_set(&mut story, 1);
    touch(&mut story);
    run_one(&mut story, 2, rolling(1));
    story.event("a", InstanceEvent::LinkClosed(None));
    assert_eq!(story.died("a").last().unwrap(), "a: Spawn");
    run_one(&mut story, 1, rolling(1));
    assert_eq!(numbers(&story), [1, 2]);
    // What was on trial fails: its end costs nothing.
    let effects = story.event("a#2", InstanceEvent::LinkClosed(None));
    assert_eq!((effects, story.died("a#2").len(), numbers(&story)), (vec![], 2, vec![1]));
}

#[test]
fn an_old_instance_that_fails_is_not_waited_for_until_its_next_try() {
    let mut story = Story::new();
    run_set(&mut story, 2);
    story.died("a#2");
    // It has failed when the file changes, and would be tried again much later.
    story.spawned("a#2");
    story.said("a#2", FromVassal::Exiting(ExitReason::Config("a.ini:3:1: unknown".to_owned())));
    story.event("a#2", InstanceEvent::LinkClosed(None));
    assert_eq!(touch(&mut story).len(), 1);
    let effects = story.died("a#2");
    assert_eq!(effects.last().unwrap(), "a#2: Spawn", "{effects:?}");
    run_one(&mut story, 2, rolling(2));
    assert_eq!(story.pass(1)[0], format!("a/2| {TAKES_OVER}"));
}

#[test]
fn what_apps_have_said_counts_until_the_vassal_is_stopped() {
    let mut story = Story::new();
    run_set(&mut story, 1);
    story.said("a", FromVassal::Announced(Announcement::Ready));
    touch(&mut story);
    run_one(&mut story, 2, rolling(1));
    let effects = story.pass(60);
    let why = "apps of this vassal have said so; 'emperor stop' forgets that";
    assert!(effects[0].contains(why), "{effects:?}");
    story.died("a#2");
    story.order(Order::Stop, "a").0.unwrap();
    story.died("a");
    story.order(Order::Start, "a").0.unwrap();
    run_one(&mut story, 1, rolling(1));
    story.pass(1);
    assert_eq!(story.outcome(Order::Start, "a"), Outcome::Done);
}

#[test]
fn a_file_of_another_owner_is_not_rolled_out() {
    let mut story = Story::new();
    story.owner = Some(OWNER);
    run_set(&mut story, 2);
    let owner = |uid| Some(Owner { uid, gid: 8 });
    story.event("a", Event::Touched("file changed", owner(OWNER.uid)));
    assert_eq!(story.no_address("a", "file changed"), [&ROLLS.replace("/1", ""), "a#3: Spawn"]);
    run_one(&mut story, 3, rolling(2));
    story.event("a", Event::Touched("file changed", owner(9)));
    let effects = story.no_address("a", "file changed");
    // The first one becomes that of the new owner, and the others follow it then.
    assert_eq!(effects[1..], ["a#3: AskToStop", "a: Reload", "a#2: AskToStop"]);
    let why = "its file belongs to user 9 now".to_owned();
    story.event("a", InstanceEvent::ReloadImpossible(why));
    story.event("a", InstanceEvent::Checked(Answer::NeedsRespawn, String::new()));
    assert!(story.died("a").contains(&"a: Spawn".to_owned()));
    // Not before the last one of the other owner is gone.
    let effects = story.event("a", InstanceEvent::Blocked("others are left"));
    assert_eq!(effects, ["a/1| waits: others are left"]);
    assert!(story.event("a", InstanceEvent::Blocked("others are left")).is_empty());
    story.died("a#2");
    story.died("a#3");
    assert_eq!(story.event("a", InstanceEvent::Unblocked), ["a: Spawn"]);
}

#[test]
fn replicas_that_all_fail_their_check_take_turns() {
    let mut story = Story::new();
    let checked = Replication { says_ready: true, ..rolling(3) };
    story.start("a");
    for number in 1..=3 {
        if number > 1 {
            story.spawned(&id_name(number));
        }
        story.said(&id_name(number), FromVassal::Replication(checked));
        story.said(&id_name(number), FromVassal::Running);
        story.said(&id_name(number), FromVassal::Announced(Announcement::Ready));
    }
    // The first one that fails is replaced at once, the others wait for it.
    assert_eq!(story.said("a#2", FromVassal::Unready), ["a#2: GiveUp"]);
    let fail = |story: &mut Story, name: &str| {
        assert_eq!(story.said(name, FromVassal::Unready), [""; 0], "{name}");
    };
    fail(&mut story, "a");
    fail(&mut story, "a#3");
    let end = |story: &mut Story, name: &str| {
        story.said(name, FromVassal::Stopping(Duration::from_secs(1)));
        story.said(name, FromVassal::Exiting(ExitReason::NotReady("it".to_owned())));
        let effects = [story.died(name), story.pass(2)].concat();
        assert_eq!(effects.last().unwrap(), &format!("{name}: Spawn"));
        story.spawned(name);
        story.said(name, FromVassal::Replication(checked));
        story.said(name, FromVassal::Running);
    };
    story.pass(5);
    end(&mut story, "a#2");
    assert_eq!(story.pass(59), [""; 0]);
    // It has had its time.
    assert_eq!(story.pass(1), ["a: GiveUp"]);
    end(&mut story, "a");
    // The third one is good again, so it need not be replaced; then it is not.
    story.said("a#3", FromVassal::Announced(Announcement::Ready));
    fail(&mut story, "a#3");
    assert_eq!(story.said("a", FromVassal::Announced(Announcement::Ready)).last().unwrap(), "a#3: GiveUp");
    // One alone waits for nobody, and one whose fellows fail for these.
    let mut story = Story::new();
    story.run("a");
    assert_eq!(story.said("a", FromVassal::Unready), ["a: GiveUp"]);
    let mut story = Story::new();
    run_set(&mut story, 2);
    story.now -= Duration::from_millis(1500);
    story.said("a#2", FromVassal::Exiting(ExitReason::App(WaitStatus::Exited(1))));
    story.died("a#2");
    assert!(matches!(story.state("a#2"), State::Backoff { .. }));
    fail(&mut story, "a");
}

#[test]
fn replicas_count_as_vassals_of_their_user() {
    let mut story = Story::new();
    let found = || Event::Found { version: None, has_old_address: false, owner: Some(7) };
    story.event("a", found());
    story.no_address("a", "");
    story.spawned("a");
    story.said("a", FromVassal::Replication(rolling(3)));
    let effects = story.said("a", FromVassal::Running);
    let limited = "a| 2 of 3 replicas: its user may have no more (emperor-tyrant-max)";
    assert_eq!(effects[1..], [limited, "a#2: Spawn"]);
    run_one(&mut story, 2, rolling(3));
    let waits = "/v/b.ini has to wait: user 7 has 2 vassals (emperor-tyrant-max)";
    assert!(story.event("b", found())[0].contains(waits));
    story.pass(1);
    // It needs only one, so there is room for the other one.
    touch(&mut story);
    run_one(&mut story, 3, rolling(1));
    story.pass(1);
    story.died("a#2");
    let effects = story.died("a#1");
    assert_eq!(effects[1..], ["b| /v/b.ini: its turn has come", &find("b", "")]);
}

#[test]
fn a_rolling_reload_costs_no_other_vassal_of_its_user_an_instance() {
    let mut story = Story::new();
    story.registry.rules.max_per_owner = 4;
    let effects = |story: &mut Story, name: &str, replicas: u16| {
        story.spawned(name);
        story.said(name, FromVassal::Replication(rolling(replicas)));
        story.said(name, FromVassal::Running)
    };
    for name in ["a", "b"] {
        story.event(name, Event::Found { version: None, has_old_address: false, owner: Some(7) });
        story.no_address(name, "");
        let replicas = 2 + u16::from(name == "b");
        effects(&mut story, name, replicas);
        effects(&mut story, &format!("{name}#2"), replicas);
    }
    story.pass(1);
    // The other one has 2 of 3, as there is no room.
    touch(&mut story);
    let pending = effects(&mut story, "a#3", 1);
    assert_eq!((pending.len(), story.said("b", FromVassal::Running)), (1, vec![]));
    // When there is, it has the third one.
    story.pass(1);
    story.died("a#2");
    assert_eq!(story.died("a#1").last().unwrap(), "b#3: Spawn");
}

#[test]
fn a_user_who_has_as_many_as_allowed_has_one_more_for_a_rolling_reload_at_a_time() {
    let mut story = Story::new();
    story.registry.rolls = Rolls::new(10);
    for name in ["a", "b", "other"] {
        let owner = Owner { uid: 7 + u32::from(name == "other"), gid: 8 };
        story.event(name, Event::Found { version: None, has_old_address: false, owner: Some(owner.uid) });
        story.no_address(name, "");
        story.event(name, InstanceEvent::Spawned { pid: 1, owner, text: None, is_of_before: false });
        story.said(name, FromVassal::Replication(rolling(1)));
        story.said(name, FromVassal::Running);
    }
    story.pass(1);
    let change = |story: &mut Story, name: &str| {
        story.event(name, Event::Changed("file changed"));
        story.no_address(name, "file changed").split_off(1)
    };
    // It never gets ready, and nobody but its user has to wait.
    let mut slow = rolling(1);
    (slow.says_ready, slow.ready_timeout) = (true, Duration::from_secs(3600));
    assert_eq!(change(&mut story, "a"), ["a#2: Spawn"]);
    run_one(&mut story, 2, slow);
    assert_eq!(change(&mut story, "b"), [""; 0]);
    assert_eq!(change(&mut story, "other"), ["other#2: Spawn"]);
    assert_eq!(story.outcome(Order::Reload, "b"), Outcome::Pending);
    assert_eq!(story.pass(3600).len(), 2);
    assert_eq!(story.died("a#2").last().unwrap(), "b#2: Spawn");
}

#[test]
fn all_instances_are_replaced_by_command_a_vassal_at_a_time() {
    let mut story = Story::new();
    ["a", "b", "held", "down"].iter().for_each(|name| story.run(name));
    story.order(Order::Stop, "held").0.unwrap();
    story.died("held");
    story.died("down");
    assert_eq!(story.registry.roll_all(story.now).to_string(), "2 vassals");
    let begins = |name: &str| format!("{name}| its instances are replaced by command");
    assert_eq!(story.effects(), [&begins("a"), "a#2: Spawn", &begins("b")]);
    // The first one does not work, and goes on as it was.
    assert_eq!(story.event("a#2", InstanceEvent::SpawnFailed(failed("it"))).last().unwrap(), "b#2: Spawn");
    story.spawned("b#2");
    story.said("b#2", FromVassal::Running);
    assert_eq!(story.pass(1).last().unwrap(), "b: AskToStop");
    story.died("b#1");
    assert_eq!(
        (story.state("a"), story.registry.vassal(&file("b")).unwrap().instances().len()),
        (State::Running { since: story.now - Duration::from_secs(1) }, 1)
    );
    // One that takes long does not keep the others waiting, and a program that takes over goes on.
    story.registry.roll_all(story.now);
    assert_eq!(story.effects()[1], "a#2: Spawn");
    let mut next = Story::new();
    next.now = story.now;
    for (file, vassal) in story.registry.vassals() {
        next.registry.take_over(file, Box::new(vassal.clone()), next.now);
    }
    assert_eq!(next.pass(0), ["a#2: Spawn"]);
    assert_eq!(next.pass(10)[0], "b: Spawn");
}

#[test]
fn what_is_wrong_with_a_vassal_is_known() {
    let mut story = Story::new();
    let problem = |story: &Story, name: &str| {
        let all = story.registry.statuses_of(&[OsStr::new(name)], &|_| false, story.now).unwrap();
        assert!(all.iter().all(|status| STATES.contains(&status.state)));
        all[0].problem
    };
    story.start("a");
    assert_eq!(problem(&story, "a"), None);
    story.pass(6);
    assert_eq!(problem(&story, "a"), Some("starting for long"));
    story.said("a", FromVassal::Running);
    assert_eq!(problem(&story, "a"), None);
    let mut lost = MountReport::sample("/app", 1, "hung");
    lost.state = MountState::Lost;
    story.said("a", FromVassal::Mountpoints(vec![lost]));
    assert_eq!(problem(&story, "a"), Some("mount lost"));
    story.said("a", FromVassal::Mountpoints(Vec::new()));
    // It has said so, and does not any more.
    story.said("a", FromVassal::Announced(Announcement::Ready));
    story.said("a", FromVassal::Announced(Announcement::Reloading));
    story.pass(6);
    assert_eq!(problem(&story, "a"), Some("not ready"));
    let says = |story: &Story| story.registry.statuses(story.now)[0].app.status.map(str::to_owned);
    story.said("a", FromVassal::Announced(Announcement::Status("at work".to_owned())));
    story.said("a", FromVassal::NotReady("ready-check: no".to_owned()));
    assert_eq!(says(&story).as_deref(), Some("ready-check: no"), "the app may say what it likes");
    story.said("a", FromVassal::Announced(Announcement::Ready));
    assert_eq!(problem(&story, "a"), None);
    assert_eq!(says(&story).as_deref(), Some("at work"));
    for _ in 0..2 {
        story.event("a", Event::Changed("file changed"));
        story.no_address("a", "file changed");
        assert_eq!(problem(&story, "a"), None, "it takes as long as its turn");
        story.event("a", InstanceEvent::ReloadSent(None));
        story.said("a", FromVassal::Reloaded);
        story.pass(6);
    }
    story.died("a");
    assert_eq!(problem(&story, "a"), None, "it is started again at once");
    for _ in 0..2 {
        story.spawned("a");
        story.died("a");
        assert_eq!(problem(&story, "a"), Some("not up"));
        story.pass(60);
        assert_eq!(problem(&story, "a"), Some("not up"), "it has not been up since, and starts");
    }
    story.spawned("a");
    story.said("a", FromVassal::Running);
    assert_eq!(problem(&story, "a"), Some("flapping"));
    story.pass(3600);
    story.order(Order::Stop, "a").0.unwrap();
    assert_eq!(problem(&story, "a"), None);
    story.pass(6);
    assert_eq!(problem(&story, "a"), Some("does not end"), "its PID 1 has not answered, and was killed");
    story.died("a");
    assert_eq!((problem(&story, "a"), story.registry.statuses(story.now)[0].recent), (None, 0));
}

#[test]
fn vassals_are_found_by_names_and_patterns() {
    let mut story = Story::new();
    for name in ["ab", "ac", "b"] {
        story.start(name);
    }
    let found = |words: &[&str]| {
        let all = story.registry.statuses_of(
            &words.iter().map(OsStr::new).collect::<Vec<_>>(),
            &|_| false,
            story.now,
        )?;
        Ok(all.iter().map(|status| status.name.to_string()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(found(&["a*"]), Ok("ab ac".to_owned()));
    assert_eq!(found(&["b", "?[bc]", "b"]), Ok("ab ac b".to_owned()));
    assert_eq!(found(&[]), Ok("ab ac b".to_owned()));
    assert_eq!(found(&["b", "c*"]), Err("there is no vassal 'c*'".to_owned()));
}

#[test]
fn a_stop_that_takes_long_is_told_and_a_second_one_insists() {
    let mut story = Story::new();
    story.run("a");
    story.order(Order::Stop, "a").0.unwrap();
    story.said("a", FromVassal::Stopping(Duration::from_secs(50)));
    // Twice within a moment is once.
    let (told, effects) = story.order(Order::Stop, "a");
    assert_eq!((told, effects.len()), (Ok("a: stopping".to_owned()), 1), "only a line");
    assert_eq!(story.pass(4), [""; 0]);
    assert_eq!(story.pass(2), ["a| still stopping after 6.0 s; it is given 45.0 s more"]);
    assert_eq!(story.pass(2), [""; 0]);
    let (told, effects) = story.order(Order::Stop, "a");
    assert_eq!(told, Ok("a: stopping: its app is killed".to_owned()));
    assert_eq!(effects, ["a: AskToStop", "a| stop by command: stopping: its app is killed"]);
}

#[test]
fn a_reload_that_takes_long_is_told_until_it_is_over() {
    let mut story = Story::new();
    story.run("a");
    let says = |story: &Story| {
        let all = story.registry.statuses(story.now);
        all.first().unwrap().app.status.map(str::to_owned)
    };
    for _ in 0..2 {
        story.event("a", Event::Changed("file changed"));
        story.no_address("a", "file changed");
        story.event("a", InstanceEvent::ReloadSent(None));
        story.said("a", FromVassal::Reloading(Duration::from_secs(50)));
        assert_eq!(story.pass(4), [""; 0]);
        let line = "still reloading after 6.0 s; it is given 45.0 s more";
        assert_eq!(story.pass(2), [format!("a| {line}")]);
        assert_eq!((says(&story).as_deref(), story.pass(2)), (Some(line), vec![]));
        story.said("a", FromVassal::Reloaded);
        assert_eq!(says(&story), None);
    }
    // A stop takes long from the beginning.
    story.event("a", Event::Changed("file changed"));
    story.no_address("a", "file changed");
    story.event("a", InstanceEvent::ReloadSent(None));
    story.said("a", FromVassal::Reloading(Duration::from_secs(50)));
    assert_eq!(story.pass(6).len(), 1);
    story.order(Order::Stop, "a").0.unwrap();
    story.said("a", FromVassal::Stopping(Duration::from_secs(50)));
    assert_eq!(story.pass(4), [""; 0]);
    assert_eq!(story.pass(2), ["a| still stopping after 6.0 s; it is given 45.0 s more"]);
}
