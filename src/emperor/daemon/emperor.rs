//! The emperor as a whole: the parts that its main loop serves.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use super::basis::Basis;
use super::limits::Limits;
use super::locks::Locks;
use super::log_file::Relay;
use super::renewal::Renewal;
use super::systemd::Notifier;
use super::upgrades::Upgrades;
use crate::config::Host;
use crate::config::plan::EmperorPlan;
use crate::emperor::api::page::Page;
use crate::emperor::api::server::Server;
use crate::emperor::commands::as_emperor::Commands;
use crate::emperor::commands::on_demand_exec::Questions;
use crate::emperor::core::backoff::Backoff;
use crate::emperor::core::owner::Owners;
use crate::emperor::discovery::queue::Discovery;
use crate::emperor::discovery::scan::Rules;
use crate::emperor::instance::{origin::Origin, spawner::Spawner};
use crate::emperor::pid_file::PidFile;
use crate::emperor::supervisor::supervisor::Supervisor;
use crate::error::{Context, Result};
use crate::sys::signal::SignalFd;
use crate::world::Machine;

/// How many vassals are set up at a time for each processor: a setup spends half of its time in the kernel,
/// waiting.
const STARTS_PER_PROCESSOR: usize = 2;

/// The parts that the main loop serves.
pub struct Emperor {
    pub signals: SignalFd,
    pub discovery: Discovery,
    pub supervisor: Supervisor,
    pub server: Server,
    pub notifier: Notifier,
    /// Since when everything is being stopped; `None` if it is not.
    pub stopping: Option<Instant>,
    /// Whether the last wait for events has failed.
    pub is_blind: bool,
    pub about: About,
    pub pid_file: Option<PidFile>,
    /// The process that copies lines to the file of the log, if there is one.
    pub log_relay: Option<Relay>,
    pub renewal: Renewal,
    pub locks: Locks,
    pub origin: Rc<Origin>,
    pub basis: Basis,
    pub upgrades: Upgrades,
    pub limits: Limits,
    /// The page that was asked for last.
    pub page: Option<Page>,
}

/// Facts about the emperor itself, for clients.
pub struct About {
    pub began: Instant,
    /// The directories as configured.
    pub sources: Vec<PathBuf>,
    /// Whether vassals run as the owners of their files.
    pub tyrant: bool,
}

impl Emperor {
    /// An emperor that others cannot see yet.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM (signalfd(2), epoll_create1(2)).
    pub fn new(
        plan: &EmperorPlan,
        basis: Basis,
        spawner: Spawner,
        origin: &Rc<Origin>,
        now: Instant,
    ) -> Result<Self> {
        let signals = SignalFd::new().context("create", "signalfd")?;
        let server = Server::new()?;
        let rules = Rules {
            extra_suffixes: plan.discovery.extra_suffixes.clone(),
            nofollow: plan.discovery.nofollow,
            owners: Owners::of(plan.tyrant),
        };
        let interval = plan.discovery.scan_interval;
        let discovery = Discovery::new(&plan.discovery.sources, rules, interval, &basis.cwd, now)?;
        let commands = Commands::new(plan.as_emperor.clone(), Rc::clone(origin));
        let rule = plan.vassals.on_demand.as_ref().map(|rule| &rule.value);
        let questions = Questions::new(rule, plan.tyrant.is_some(), Rc::clone(origin));
        let backoff = Backoff::new(plan.throttle, plan.max_throttle);
        let per_processor = || STARTS_PER_PROCESSOR * Machine.cpus();
        let or_usual = |count: Option<u32>| count.map_or_else(per_processor, |count| count as usize);
        let (max_starts, max_rolls) = (or_usual(plan.max_starts), or_usual(plan.max_reloads));
        let supervisor = Supervisor::new(spawner, commands, questions, backoff, max_starts, max_rolls)?;
        Ok(Self {
            signals,
            discovery,
            limits: Limits::look(&supervisor),
            page: None,
            supervisor,
            server,
            notifier: Notifier::new(&origin.environment, now),
            stopping: None,
            is_blind: false,
            about: About {
                began: now,
                sources: plan.discovery.sources.iter().map(|source| source.value.path().to_owned()).collect(),
                tyrant: plan.tyrant.is_some(),
            },
            pid_file: None,
            log_relay: None,
            renewal: Renewal::new(interval, now),
            origin: Rc::clone(origin),
            locks: Locks::new(&plan.discovery.sources, &basis.cwd),
            basis,
            upgrades: Upgrades::new(Rc::clone(origin)),
        })
    }
}
