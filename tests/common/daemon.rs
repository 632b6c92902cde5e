//! A running program of ours and its log.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{NOTICED, eventually, process, slowness, until};

/// A program that was started, with its output in a file. It is killed when the test is done with it.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`; standard output and error go to a file of its own, `log` or, where that is another
    /// one's, `log` with a number.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let numbered = (2..).map(|number| log.with_extension(format!("{number}.log")));
        let unused = |log: &PathBuf| !log.exists();
        let log = std::iter::once(log.clone()).chain(numbered).find(unused).unwrap();
        let file = File::options().create_new(true).append(true).open(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Everything it, and what it started, has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// The lines that contain `text`. One that is still being written is none yet.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let log = self.log();
        let (whole, _) = log.rsplit_once('\n').unwrap_or_default();
        whole.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Waits for a line that contains `text`, and returns the first one.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_nth(1, text)
    }

    /// Waits for the `n`th line that contains `text`.
    pub fn wait_for_nth(&self, n: usize, text: &str) -> String {
        eventually(format_args!("log line #{n} with '{text}'"), || self.lines(text).into_iter().nth(n - 1))
    }

    /// Waits for a line that names a time behind `text`, and checks it: the program has waited for so long,
    /// and then noticed. Returns the line.
    pub fn wait_for_time(&self, text: &str, time: Duration) -> String {
        let line = self.wait_for(text);
        let named = time_behind(&line, text);
        assert!(
            named >= time && named < time + NOTICED * slowness(),
            "{named:?} instead of {time:?}: {line}"
        );
        line
    }

    /// Waits until the `n`th instance of a vassal runs, and returns the pid of its PID 1.
    pub fn wait_running(&self, n: usize, name: &str) -> i32 {
        self.wait_for_nth(n, &format!("emperor: {name}: running after "));
        self.pid_of(name)
    }

    /// Waits until a vassal is being started, and returns the pid of its PID 1.
    pub fn pid_of_started(&self, name: &str) -> i32 {
        self.wait_for(&format!("emperor: {name}: started (pid "));
        self.pid_of(name)
    }

    /// The pid of the latest instance of a vassal, by the emperor's log.
    pub fn pid_of(&self, name: &str) -> i32 {
        let lines = self.lines(&format!("emperor: {name}: started (pid "));
        let line = lines.last().expect("a started vassal");
        line.rsplit_once(' ').unwrap().1.trim_end_matches(')').parse().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end and returns the exit status, 128+n for signal n.
    pub fn wait(&mut self) -> i32 {
        let what = format!("the end of {}", self.log.display());
        let status = eventually(what, || self.child.try_wait().unwrap());
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks an emperor to end and checks that it does so in order: status 0, no process left.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait(), 0, "the emperor's exit status");
        until("no vassal is left", || process::all().iter().all(process::Process::is_of_sandbox));
    }
}

/// The time that a line names behind `text`: `0.99 ms`, `12 ms`, `1.5 s`.
pub fn time_behind(line: &str, text: &str) -> Duration {
    let (_, rest) = line.split_once(text).unwrap_or_else(|| panic!("'{text}' is not in {line}"));
    let mut words = rest.trim_start().split([' ', ';', ':', ',', ')']);
    let number: f64 =
        words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no time: {line}"));
    match words.next() {
        Some("ms") => Duration::from_secs_f64(number / 1000.0),
        Some("s") => Duration::from_secs_f64(number),
        _ => panic!("no unit: {line}"),
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
