//! `vassal-init`: PID 1 of a vassal, or of a container.
//!
//! A vassal lives through namespaces, phases, privilege drop, mountpoint gate, app, main loop and shutdown,
//! in this order ([`life`]).
//!
//! In: a command line and a file, or a link to the emperor with the greeting. Out: processes, mounts and log
//! lines; messages over the link; and an exit status.
//!
//! May not be done here: block for more than a few milliseconds anywhere but in [`event_loop`], where
//! signals, the emperor and dead children are heard at any time; touch a path that may hang, except in a
//! child; import `emperor`.
//!
//! | room | job |
//! |---|---|
//! | [`start`] | from a configuration to a vassal, for the emperor or from a shell |
//! | [`greeting`] | what the emperor tells a vassal over the link at the start |
//! | [`unshare`] | `--unshare` from a shell: makes the namespaces, waits for the PID 1 inside |
//! | [`vassal`] | the parts of a vassal |
//! | [`outcome`] | how a life ends, and how an error becomes its end |
//! | [`life`] | the order of things: setup, the running app, reload, remount, shutdown |
//! | [`steps`] | what the setup is made of: hooks, change of root, sockets, limits, the app |
//! | [`event_loop`] | one place to wait: signals, dead children, the emperor, the app, mounts, probes |
//! | [`jail`] | what children get: root, working directory, umask, environment, identity |
//! | [`child`] | a child process, from clone to exec, and dead children |
//! | [`source`] | the configuration and how it is read again |
//! | [`watch`] | the checked mountpoints: who asks them, and what the answers mean |

pub mod child;
pub mod event_loop;
pub mod greeting;
pub mod jail;
pub mod life;
pub mod outcome;
pub mod source;
pub mod start;
pub mod steps;
pub mod unshare;
pub mod vassal;
pub mod watch;
