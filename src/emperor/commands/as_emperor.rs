//! The commands of as-emperor. The emperor runs them in its own namespaces for every instance that it has
//! created.
//!
//! As in uWSGI the commands of an instance run one after another, and a failure of one does not stop the
//! next. Neither the vassal nor the main loop waits for them. Commands of different instances run at the same
//! time. Their text is not logged, because it may contain a password.

use std::ffi::{OsStr, OsString};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::shell::{self, kill_group};
use crate::config::plan::Located;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::origin::Origin;
use crate::emperor::instance::process::Process;
use crate::error::Result;
use crate::log::{self, Elapsed};
use crate::protocol::WaitStatus;
use crate::shell::Shell;

/// A command that has not ended after this time is killed, with its process group.
const TIMEOUT: Duration = Duration::from_secs(60);

/// All commands of as-emperor, and those that run now.
pub struct Commands {
    commands: Vec<Located<OsString>>,
    origin: Rc<Origin>,
    running: Vec<Running>,
}

/// A command that runs.
struct Running {
    pid: Pid,
    job: Job,
}

/// The commands for one instance.
struct Job {
    /// The name of the instance, as log lines show it.
    name: String,
    instance: Pid,
    variables: Vec<(OsString, OsString)>,
    /// The index of the command that runs.
    index: usize,
    began: Instant,
    /// When to kill it; `None` once it was killed.
    kill_at: Option<Instant>,
    /// Whether the command that runs is the last one.
    last: bool,
}

impl Commands {
    /// Nothing runs yet.
    pub fn new(commands: Vec<Located<OsString>>, origin: Rc<Origin>) -> Self {
        Self { commands, origin, running: Vec::new() }
    }

    /// Begins the commands for an instance of the vassal whose file is at `path`. `name` is the instance's.
    pub fn begin(&mut self, path: &VassalFile, name: String, process: &Process, now: Instant) {
        let variable = |name: &str, value: &OsStr| (OsString::from(name), value.to_owned());
        let number = |name, number: u32| variable(name, number.to_string().as_ref());
        // uWSGI's four variables, and the vassal's name, which commands would otherwise have to cut out of
        // the path.
        let variables = vec![
            variable("UWSGI_VASSAL_CONFIG", path.as_os_str()),
            number("UWSGI_VASSAL_PID", process.pid.as_raw_pid().unsigned_abs()),
            number("UWSGI_VASSAL_UID", process.owner.uid),
            number("UWSGI_VASSAL_GID", process.owner.gid),
            variable("UWSGI_VASSAL_NAME", path.name()),
        ];
        self.run(Job {
            name,
            instance: process.pid,
            variables,
            index: 0,
            began: now,
            kill_at: Some(now + TIMEOUT),
            last: false,
        });
    }

    /// Whether no command runs.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Called for each child that has ended and is not an instance. Returns whether it was one of these
    /// commands.
    pub fn ended(&mut self, pid: Pid, status: WaitStatus, now: Instant) -> bool {
        let Some(index) = self.running.iter().position(|running| running.pid == pid) else { return false };
        let Running { mut job, .. } = self.running.swap_remove(index);
        if let (Some(_), Some(command)) = (job.kill_at, self.commands.get(job.index)) {
            let took = Elapsed(now.saturating_duration_since(job.began));
            log::line(&job.name, format_args!("{} ({}): {status} after {took}", command.key, command.at));
        }
        if !job.last {
            job.index += 1;
            job.began = now;
            job.kill_at = Some(now + TIMEOUT);
            self.run(job);
        }
        true
    }

    /// Notes that the instance has ended and its pid is free. The command that runs for it goes on, but is
    /// its last.
    pub fn instance_ended(&mut self, instance: Pid) {
        for Running { job, .. } in &mut self.running {
            job.last |= job.instance == instance;
        }
    }

    /// When [`Commands::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.running.iter().filter_map(|running| running.job.kill_at).min()
    }

    /// Kills commands that have run for too long.
    pub fn time(&mut self, now: Instant) {
        for Running { pid, job } in &mut self.running {
            if job.kill_at.is_some_and(|deadline| deadline <= now)
                && let Some(command) = self.commands.get(job.index)
            {
                let took = Elapsed(now.saturating_duration_since(job.began));
                log::line(
                    &job.name,
                    format_args!("{} ({}): still running after {took}: killed", command.key, command.at),
                );
                job.kill_at = None;
                kill_group(*pid);
            }
        }
    }

    /// Kills all commands, and starts no other ones.
    pub fn stop(&mut self) {
        self.commands.clear();
        for Running { pid, job } in &mut self.running {
            if job.kill_at.take().is_some() {
                log::line(&job.name, format_args!("as-emperor commands cut short"));
                kill_group(*pid);
            }
        }
    }

    /// Runs the next command of a job. A command that cannot be started is skipped.
    fn run(&mut self, mut job: Job) {
        while let Some(command) = self.commands.get(job.index) {
            match self.start(&command.value, &job) {
                Ok(pid) => {
                    self.running.push(Running { pid, job });
                    return;
                }
                Err(error) => log::line(&job.name, format_args!("{} ({}): {error}", command.key, command.at)),
            }
            job.index += 1;
        }
    }

    fn start(&self, command: &OsStr, job: &Job) -> Result<Pid> {
        let variables = &job.variables;
        shell::start(Shell { command, ..Shell::default() }, variables, &self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Location;
    use crate::emperor::core::owner::Owner;
    use rustix::process::{WaitOptions, getpid, waitpid};

    fn commands(texts: &[&str]) -> Commands {
        let at = Location { file: "emperor.ini".into(), line: 2, column: 1 };
        let located =
            |text: &&str| Located { value: text.into(), key: "exec-as-emperor".into(), at: at.clone() };
        let origin = Rc::new(Origin::new(crate::sys::signal::block_all(), None).unwrap());
        Commands::new(texts.iter().map(located).collect(), origin)
    }

    fn process() -> Process {
        Process {
            pid: getpid(),
            link: None,
            owner: Owner { uid: 7, gid: 8 },
            owned: false,
            cgroup: None,
            noted: Vec::new(),
            sockets: None,
            ids: None,
            reads: Default::default(),
        }
    }

    /// Waits for the command that runs, and reports its end.
    fn reap(commands: &mut Commands) -> WaitStatus {
        let pid = commands.running[0].pid;
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        let status = WaitStatus::of(status).unwrap();
        commands.ended(pid, status, Instant::now());
        status
    }

    #[test]
    fn one_after_another_with_the_variables_of_uwsgi() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let write = format!(
            "echo $UWSGI_VASSAL_CONFIG $UWSGI_VASSAL_PID $UWSGI_VASSAL_UID $UWSGI_VASSAL_GID \
             $UWSGI_VASSAL_NAME > {0}; exit 3",
            out.display()
        );
        let append = format!("echo second >> {0}; [ $(ps -o pgid= -p $$) = $$ ]", out.display());
        let mut commands = commands(&[&write, &append]);
        let now = Instant::now();
        commands.begin(&VassalFile::new("/v/a.ini".into(), 3), "a".to_owned(), &process(), now);
        assert_eq!(commands.deadline(), Some(now + TIMEOUT));
        assert_eq!(reap(&mut commands), WaitStatus::Exited(3));
        assert_eq!(reap(&mut commands), WaitStatus::Exited(0));
        assert_eq!(commands.deadline(), None);
        let text = std::fs::read_to_string(&out).unwrap();
        std::fs::remove_file(&out).unwrap();
        assert_eq!(text, format!("/v/a.ini {} 7 8 a\nsecond\n", std::process::id()));
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_group_and_the_next_one_runs() {
        let mut commands = commands(&["sleep 1000 & wait", "exit 5"]);
        let now = Instant::now();
        commands.begin(&VassalFile::new("/v/a.ini".into(), 3), "a".to_owned(), &process(), now);
        commands.time(now + TIMEOUT / 2);
        assert_eq!(commands.deadline(), Some(now + TIMEOUT));
        commands.time(now + TIMEOUT);
        assert_eq!(commands.deadline(), None);
        assert_eq!(reap(&mut commands), WaitStatus::Signaled(libc::SIGKILL));
        assert_eq!(reap(&mut commands), WaitStatus::Exited(5));
    }

    #[test]
    fn nothing_more_is_begun_for_an_instance_that_has_ended_or_while_stopping() {
        let mut commands = commands(&["exit 0", "exit 0"]);
        commands.begin(&VassalFile::new("/v/a.ini".into(), 3), "a".to_owned(), &process(), Instant::now());
        commands.instance_ended(getpid());
        reap(&mut commands);
        assert!(commands.running.is_empty());
        commands.begin(&VassalFile::new("/v/a.ini".into(), 3), "a".to_owned(), &process(), Instant::now());
        commands.stop();
        reap(&mut commands);
        assert!(commands.running.is_empty());
    }
}
