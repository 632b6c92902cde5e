//! `vassal-init`: PID 1 of a vassal.
//!
//! [`run`] reads top to bottom like the life of a vassal: namespaces, phases, privilege drop, mountpoint gate, app,
//! main loop, shutdown. Everything that waits does so in [`events`], so that signals, the emperor and dead children
//! are heard at any time.
//!
//! | file | job |
//! |---|---|
//! | [`start`] | from a configuration to a vassal, for the emperor or from a shell |
//! | [`entrypoint`], [`job`] | one command without a vassal's life: its signals, its terminal, its status |
//! | [`run`] | the life of a vassal, in order |
//! | [`app`] | how the app is started, and what it tells of itself |
//! | [`wait`] | waiting for a child or for what comes next, and the books that are kept meanwhile |
//! | [`mainloop`] | the running app, the request to stop, the end |
//! | [`outer`] | `--unshare` from a shell: makes the namespaces, waits for the PID 1 inside |
//! | [`events`] | one place to wait: signals, dead children, the emperor, mounts, probes |
//! | [`hook`], [`action`] | one hook of one phase: in PID 1 itself, and in a child |
//! | [`announce`] | what the app tells of itself: ready, alive, its status |
//! | [`sockets`] | the listening sockets of the app |
//! | [`jail`] | the change of root |
//! | [`remount`] | what follows a lost mountpoint while the app runs |
//! | [`reload`] | whether a new file can be taken on in the same jail |
//! | [`limits`] | cgroups and other limits |
//! | [`look`] | what a file that is read again may ask of the machine |
//! | [`launch`] | a child process: identity, signals, exec |
//! | [`tyrant`] | becoming the owner of the file before it is read |
//! | [`creds`] | what PID 1 itself keeps after the privilege drop |
//! | [`mountpoints`] | all checked paths: who may ask them, and what the answers mean |
//! | [`watchdog`], [`probe`] | the judgement of one mountpoint (pure), and the process that asks it |
//! | [`procfs`] | mounts and processes, from a procfs of our own |
//! | [`reaper`] | dead children, and ending all living ones |

pub mod action;
pub mod announce;
pub mod app;
pub mod creds;
pub mod entrypoint;
pub mod events;
pub mod hook;
pub mod jail;
pub mod job;
pub mod launch;
pub mod limits;
pub mod look;
pub mod mainloop;
pub mod mountpoints;
pub mod outer;
pub mod probe;
pub mod procfs;
pub mod reaper;
pub mod reload;
pub mod remount;
pub mod run;
pub mod sockets;
pub mod start;
pub mod tyrant;
pub mod wait;
pub mod watchdog;
