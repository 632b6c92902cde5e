//! What the emperor knows of one vassal.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::file_version::FileVersion;
use super::instance::{Instance, UsedFile};
use super::instance_id::FIRST;
use super::machine::{End, Input, Output, State, Then};
use super::owner::Owner;
use super::status::{App, FLAPPING, LONG, NO_LOG, NOT_READY, NOT_UP, Refused, Status, Versions};
use super::text::later;
use super::vassal_file::VassalFile;
use crate::config::plan::Address;
use crate::protocol::{MountState, Replication};
use crate::running_time::earliest;

/// The sockets of a vassal that will be down for longer than this are closed, so that clients are refused at
/// once.
const SOCKETS_WAIT: Duration = Duration::from_secs(10);

/// What the configuration of an instance was made of that could be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// All of it, as PID 1 has said.
    pub text: Rc<[u8]>,
    /// The owner of its processes.
    pub owner: Owner,
    /// The file.
    pub file: UsedFile,
    /// Whether the file has changed since.
    pub is_of_before: bool,
}

/// A vassal, and its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vassal {
    /// The version of its file that was last used.
    pub(super) file_version: FileVersion,
    /// Whether the vassal was taken over in an upgrade, and no scan has found its file since.
    pub(super) is_unclaimed: bool,
    /// The owner of its file, in tyrant mode.
    pub(super) owner: Option<u32>,
    /// The address of the on-demand socket; `None` if the vassal is not on demand.
    pub(super) on_demand: Option<Box<Address>>,
    /// Whether that address was asked for and is not known yet.
    pub(super) is_asking: bool,
    /// Whether its file is read to find out whether it says something else than before.
    pub(super) is_comparing: bool,
    /// Why the present version of the file was refused, so that instances go on with an older one.
    pub(super) refused: Option<String>,
    /// Whether its instances were last replaced by command, and not for the file.
    pub(super) is_roll: bool,
    /// What instances come back with while a reload is under way, or refused: that of the last instance that
    /// could be relied on, if new instances take the place of old ones.
    pub(super) proven: Option<Box<Proven>>,
    /// Whether an app of the vassal has ever said that it is ready.
    pub(super) announces: bool,
    /// How many instances there are to be, and how they are replaced.
    pub(super) replication: Replication,
    /// The instances, in the order of their creation. There is at least one.
    pub(super) instances: Vec<Instance>,
}

impl Vassal {
    /// A vassal that was never started.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            file_version: FileVersion::default(),
            is_unclaimed: false,
            owner: None,
            on_demand: None,
            is_asking: false,
            is_comparing: false,
            refused: None,
            is_roll: false,
            proven: None,
            announces: false,
            replication: Replication::default(),
            instances: vec![Instance::new(FIRST, backoff)],
        }
    }

    /// The instances, in the order of their creation.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// The instance with this number.
    pub fn instance(&self, number: u16) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.number == number)
    }

    /// The instance with this number.
    pub(super) fn instance_mut(&mut self, number: u16) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.number == number)
    }

    /// Whether its instances are told apart by their numbers: there may be several at a time.
    pub fn is_set(&self) -> bool {
        self.instances.len() > 1 || self.replication.replicas > 1 || self.replication.is_rolling
    }

    /// Whether an instance is in such a state.
    pub fn has(&self, is_so: impl Fn(State) -> bool) -> bool {
        self.instances.iter().any(|instance| is_so(instance.state()))
    }

    /// Whether it waits for the first client.
    pub fn is_waiting(&self) -> bool {
        self.has(|state| state == State::Waiting)
    }

    /// Whether an app of its runs.
    pub fn is_running(&self) -> bool {
        self.has(|state| matches!(state, State::Running { .. }))
    }

    /// Whether it has a process.
    pub fn has_process(&self) -> bool {
        self.instances.iter().any(|instance| instance.process.is_some())
    }

    /// The address of the on-demand socket; `None` if the vassal is not on demand.
    pub fn on_demand(&self) -> Option<&Address> {
        self.on_demand.as_deref()
    }

    /// Whether it was taken over in an upgrade, and no scan has found its file since.
    pub fn is_unclaimed(&self) -> bool {
        self.is_unclaimed
    }

    /// Whether its instances have reported checked mountpoints.
    pub fn has_mountpoints(&self) -> bool {
        self.instances.iter().any(|instance| !instance.mountpoints.is_empty())
    }

    /// Has the state machine of an instance take an input.
    pub(super) fn step(&mut self, number: u16, input: Input, now: Instant) -> Output {
        // While another instance accepts connections, or will without a client, none is left to wait for.
        let is_away = |other: &Instance| other.process.is_none() && other.machine.deadline().is_none();
        let is_alone = |other: &Instance| other.number == number || is_away(other);
        let waits = self.on_demand.is_some() && self.instances.iter().all(is_alone);
        let Some(instance) = self.instance_mut(number) else { return Output::None };
        instance.machine.set_on_demand(waits);
        let output = instance.machine.step(input, now);
        if let State::Idle | State::Held | State::Waiting = instance.state() {
            // No app is wanted.
            instance.down_since = None;
        }
        output
    }

    /// Whether clients know an instance already: it ran before, or one of them waits at its socket. Not if it
    /// keeps failing, so that it does not come before all others each time.
    pub(super) fn is_urgent(&self, instance: &Instance) -> bool {
        let history = &instance.history;
        history.past.failures.is_none() && (history.instances > 0 || self.on_demand.is_some())
    }

    /// When [`Input::Time`] has something to do for an instance, or its place among the others changes. From
    /// the second failure in a row on, the delay is up to a tenth longer, by chance, so that vassals that
    /// failed together do not start together.
    pub(super) fn deadline(&self, instance: &Instance, file: &VassalFile, now: Instant) -> Option<Instant> {
        let not_waited_for = instance.waited_for_until().filter(|at| *at > now && self.is_set());
        // The process has ended, so none of its own deadlines applies.
        if instance.has_ended() {
            return not_waited_for;
        }
        let of_machine = instance.machine.deadline().map(|at| match instance.history.past.failures {
            Some(failures) if failures.count > 1 && matches!(instance.state(), State::Backoff { .. }) => {
                let chance = file.chance(failures.count ^ u32::from(instance.number - FIRST) << 16);
                later(at, failures.wait / 1000 * (chance % 100))
            }
            _ => at,
        });
        let relied_on_at = instance.relied_on_at(self.announces).filter(|at| *at > now && self.is_set());
        let turn = instance.not_ready_until().filter(|at| *at > now);
        let turn = turn.filter(|_| self.instances.iter().any(Instance::is_unready));
        earliest(&[
            of_machine,
            instance.late_at(),
            relied_on_at,
            not_waited_for,
            turn,
            instance.trial_until(),
        ])
    }

    /// The owner of its file; `None` if owners do not matter.
    pub fn user(&self) -> Option<u32> {
        self.owner
    }

    /// Whether it counts as one of the vassals of this user.
    pub(super) fn is_of(&self, owner: u32) -> bool {
        let process = self.instances.iter().find_map(Instance::process);
        self.owner.or_else(|| process.map(|process| process.owner.uid)) == Some(owner)
    }

    /// Whether it is being refreshed.
    pub(super) fn is_reloading(&self) -> bool {
        let is_reloading = |state: State| {
            matches!(state, State::Reloading { .. } | State::Stopping { then: Then::Respawn, .. })
        };
        self.is_asking || self.has(is_reloading) || self.is_rolling()
    }

    /// What the file says with which all of its instances run; `None` if any change of the file counts.
    pub(super) fn text(&self) -> Option<u64> {
        let text = |instance: &Instance| match (instance.state(), &instance.process) {
            (State::Running { .. }, Some(process)) => process.file.text,
            _ => None,
        };
        let first = text(self.instances.first()?).filter(|_| !self.is_reloading())?;
        self.instances.iter().all(|instance| text(instance) == Some(first)).then_some(first)
    }

    /// Whether a version is that of its file on a filesystem that was mounted anew; if so, takes it over.
    pub(super) fn is_remounted(&mut self, version: FileVersion) -> bool {
        let is_remounted = version.is_remounted(&self.file_version);
        if is_remounted {
            self.file_version = version;
        }
        is_remounted
    }

    /// Whether new instances are taking the place of others.
    pub(super) fn is_rolling(&self) -> bool {
        self.instances.iter().any(|instance| instance.is_old || instance.is_on_trial)
    }

    /// Whether its file still belongs to the owner as whom its instances run, as far as is known.
    pub(super) fn is_own(&self) -> bool {
        let mut processes = self.instances.iter().filter_map(Instance::process);
        processes.all(|process| self.is_of_owner(process.owner, process.file.owner))
    }

    /// The file as it was read last, which says this.
    pub(super) fn used_file(&self, text: Option<u64>) -> UsedFile {
        UsedFile { text, modified: self.file_version.modified, owner: self.file_version.owner }
    }

    /// Whether its file still belongs to the owner of processes who had the file at their start.
    fn is_of_owner(&self, owner: Owner, file_owner: Option<Owner>) -> bool {
        let is_same = self.file_version.owner.is_none() || self.file_version.owner == file_owner;
        is_same && self.owner.is_none_or(|uid| uid == owner.uid)
    }

    /// Whether a change of its file makes new instances take the place of the present ones. Those of another
    /// owner are not to go on until then.
    pub(super) fn rolls(&self) -> bool {
        // Those that are replaced by command go on like that.
        (self.replication.is_rolling || self.is_rolling())
            && self.is_own()
            && !self.is_held()
            && self.instances.iter().any(|it| it.is_up() || self.proven.is_some() && it.comes_back())
    }

    /// What an instance is to be started with instead of its file: one that is not there to try that out
    /// comes back with what was proven, while the file is tried out, or was refused.
    pub(super) fn proven_for(&self, instance: &Instance) -> Option<&Proven> {
        let is_its = |proven: &&Proven| self.is_of_owner(proven.owner, proven.file.owner);
        let is_asked = !instance.is_on_trial && (instance.is_old || self.refused.is_some());
        self.proven.as_deref().filter(|_| is_asked).filter(is_its)
    }

    /// Whether an old instance that ends comes back as such.
    pub(super) fn goes_back(&self) -> bool {
        self.proven.as_ref().is_some_and(|proven| proven.is_of_before)
    }

    /// The present action for a change of its file, for the log; `None` at the first start.
    pub(super) fn how_it_is_refreshed(&self) -> Option<&'static str> {
        let instance = self.instances.iter().find(|one| one.is_up()).or(self.instances.first())?;
        match instance.state() {
            _ if self.rolls() => Some("starting with the new file beside the present one"),
            State::Idle if instance.history.instances == 0 => None,
            State::Idle | State::Backoff { .. } | State::Invalid { .. } | State::Waiting => {
                Some(if self.on_demand.is_some() { "listening" } else { "starting" })
            }
            State::Running { .. } => Some("reloading"),
            State::Reloading { .. } => Some("reloading once more after the reload that is going on"),
            State::Starting { .. } if instance.lacks_process() => Some("starting"),
            State::Starting { .. } => Some("restarting"),
            State::Held | State::Stopping { then: Then::Hold, .. } => Some("stays stopped, as commanded"),
            State::Stopping { .. } => Some("starting again as soon as it has stopped"),
        }
    }

    /// Whether it is ending for good because its file is gone. A start would then fail for ever, because no
    /// scan would report the file as gone again.
    pub(super) fn has_lost_its_file(&self) -> bool {
        self.instances.iter().all(Instance::is_leaving)
    }

    /// Whether it was stopped by command.
    pub(super) fn is_held(&self) -> bool {
        self.instances.iter().any(Instance::is_held)
    }

    /// Whether connections are worth keeping until the next instance.
    pub(super) fn is_back_soon(&self, now: Instant) -> bool {
        self.instances.iter().any(|instance| match instance.state() {
            State::Starting { .. } => true,
            State::Backoff { until } => until.saturating_duration_since(now) <= SOCKETS_WAIT,
            _ => instance.process.is_some(),
        })
    }

    /// The name of an instance, as log lines show it.
    pub(super) fn name_of<'a>(&self, file: &'a VassalFile, number: u16) -> Cow<'a, str> {
        match self.is_set() {
            false => file.shown(),
            true => Cow::Owned(format!("{}/{number}", file.shown())),
        }
    }

    fn refused(&self) -> Option<Refused<'_>> {
        self.refused.as_deref().map(|why| Refused { why, is_roll: self.is_roll })
    }

    /// What is wrong with an instance, if anything is.
    fn problem(&self, instance: &Instance, in_state: Option<Duration>, now: Instant) -> Option<&'static str> {
        let is_long = in_state.is_some_and(|time| time > LONG);
        let is_sent = || instance.process().is_some_and(|process| process.asked_to_reload.is_some());
        let is_in = |state| instance.mountpoints.all().any(|(report, _)| report.state == state);
        match instance.state() {
            State::Backoff { .. } => Some(NOT_UP),
            State::Invalid { .. } => Some("invalid file"),
            State::Stopping { end: End::Killed, .. } if is_long => Some("does not end"),
            State::Stopping { .. } if is_long => Some("stopping for long"),
            State::Starting { .. } if is_long => Some("starting for long"),
            State::Starting { .. } if instance.history.past.failures.is_some() => Some(NOT_UP),
            State::Reloading { .. } if is_long && is_sent() => Some("reloading for long"),
            _ if is_in(MountState::Lost) => Some("mount lost"),
            _ if is_in(MountState::Blind) => Some("mount cannot be judged"),
            _ if instance.history.flaps(now) && !instance.is_held() => Some(FLAPPING),
            State::Running { .. } if self.refused.is_some() => self.refused().map(|refused| refused.what()),
            _ if instance.is_unready() => Some(NOT_READY),
            State::Running { .. } if is_long && instance.ready_at(self.announces).is_none() => {
                Some(NOT_READY)
            }
            State::Running { .. } if instance.history.output.contains("inherit: ") => Some(NO_LOG),
            _ => None,
        }
    }

    /// The status of an instance, for logs, commands, stats and metrics.
    pub(super) fn status<'a>(
        &'a self,
        instance: &'a Instance,
        file: &'a VassalFile,
        now: Instant,
    ) -> Status<'a> {
        let process = instance.process.as_ref();
        let (mut since, mut next_try) = (None, None);
        let state = match instance.state() {
            State::Idle => "idle",
            State::Starting { .. } => "starting",
            State::Running { since: began } => {
                since = Some(began);
                "running"
            }
            State::Reloading { since: began, .. } => {
                since = Some(began);
                "reloading"
            }
            State::Stopping { end: End::Killed, .. } => "killed",
            State::Stopping { then: Then::Respawn | Then::Backoff, .. } if self.on_demand.is_none() => {
                "restarting"
            }
            State::Stopping { .. } => "stopping",
            State::Backoff { until } => {
                next_try = Some(until);
                "backoff"
            }
            State::Invalid { until } => {
                next_try = Some(until);
                "invalid"
            }
            State::Held => "stopped",
            State::Waiting => "waiting",
        };
        let is_stopping = matches!(instance.state(), State::Stopping { .. });
        let entered = instance.entered().or(since);
        let in_state = entered.map(|entered| now.saturating_duration_since(entered));
        Status {
            name: self.name_of(file, instance.number),
            replica: instance.number,
            path: file,
            state,
            awaits_turn: instance.lacks_process(),
            stopping: process.filter(|_| is_stopping).map(|process| process.stopping().unwrap_or(now)),
            pid: process.map(|process| process.pid),
            uptime: since.map(|since| now.saturating_duration_since(since)),
            next_try: next_try.map(|until| until.saturating_duration_since(now)),
            history: &instance.history,
            version: Versions {
                modified: seconds(self.file_version.modified),
                used: process.map(|process| seconds(process.file.modified)),
                goes_back: self.proven_for(instance).is_some(),
            },
            mountpoints: &instance.mountpoints,
            refused: self.refused(),
            since,
            app: process.map_or(App::default(), |process| App {
                pid: instance.app,
                ready: process.said.ready,
                announces: self.announces || instance.replication().says_ready,
                loyal: process.said.loyal,
                heartbeat: process.said.heartbeat,
                status: (process.wait.as_ref().map(|wait| &*wait.on))
                    .or(process.said.unready.as_deref())
                    .or(Some(process.said.status.as_str()).filter(|said| !said.is_empty())),
            }),
            in_state,
            recent: instance.history.past.recent.count(now),
            problem: self.problem(instance, in_state, now),
            born: process.map(|process| process.born),
            owner: process.map(|process| process.owner),
            on_demand: self.on_demand.as_ref().map(|address| address.name.as_str()),
        }
    }
}

/// A time of a file's, which may be before 1970.
fn seconds(time: i64) -> u64 {
    u64::try_from(time).unwrap_or(0)
}
