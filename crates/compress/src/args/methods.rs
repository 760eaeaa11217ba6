//! The list of methods.
//!
//! A method is one entry of `methods!`, and a struct of options (in `options.rs`) that says what the method is: all else that
//! depends on it (help, the table of `methods`, which code runs) follows.

use anyhow::Result;
use clap::{Args, Subcommand};
use compress_core::Method;
use serde::Serialize;

use super::{
    Planning, Running,
    options::{FwSvdOptions, LorcOptions, MasaOptions, SvdOptions, WeloreOptions},
};
use crate::job;

/// The options of a method.
pub trait MethodOptions: Args {
    /// The method.
    type Method: Method;

    /// What it is, in a sentence of help.
    const SUMMARY: &'static str;

    /// What it does, needs and costs: a row for each of its ways.
    const ABOUT: &'static [About];

    /// The options that decide the size of an output, where these take no budget.
    fn size_decided_by(&self) -> Option<&'static str> {
        None
    }

    /// The method with these options.
    fn method(&self) -> Self::Method;
}

/// A row of the table of methods.
#[derive(Debug, Serialize)]
pub struct About {
    pub name: &'static str,
    pub does: &'static str,
    pub needs: &'static str,
    pub costs: &'static str,
    pub paper: &'static str,
}

/// Work that is the same for every method.
pub trait Work<Job> {
    /// What it gives.
    type Output;

    /// Does it by one of them.
    fn by<M: Method>(self, method: &M, job: Job) -> Self::Output;
}

/// A method's own options beside those of a verb.
#[derive(Debug, Args)]
pub struct With<Own: Args, Verb: Args> {
    #[command(flatten)]
    own: Own,
    #[command(flatten)]
    verb: Verb,
}

/// Makes the subcommands, the dispatch and the table from one list.
macro_rules! methods {
    ($($name:ident($options:ty)),+ $(,)?) => {
        /// One line per method; each takes the options of the verb and its own.
        #[derive(Debug, Subcommand)]
        pub enum By<Verb: Args> {
            $(
                #[command(about = <$options as MethodOptions>::SUMMARY)]
                $name(With<$options, Verb>),
            )+
        }

        impl<Verb: Args + Asks> By<Verb> {
            /// The job that is meant, whatever the method.
            pub fn job(&self) -> Result<Verb::Job> {
                match self {
                    $(Self::$name(with) => with.job(),)+
                }
            }

            /// Does some work by the method that is meant.
            pub fn perform<W: Work<Verb::Job>>(&self, job: Verb::Job, work: W) -> W::Output {
                match self {
                    $(Self::$name(With { own, .. }) => work.by(&own.method(), job),)+
                }
            }
        }

        /// What all methods do, need and cost.
        pub const ABOUT: &[&[About]] = &[$(<$options as MethodOptions>::ABOUT),+];
    };
}

methods! {
    Svd(SvdOptions),
    Fwsvd(FwSvdOptions),
    Welore(WeloreOptions),
    Lorc(LorcOptions),
    Masa(MasaOptions),
}

/// The options of a verb, which ask for a job.
pub trait Asks {
    /// The job.
    type Job;

    /// Is asked for of a method; see [`Planning::job`].
    fn asks(&self, method: &str, size_decided_by: Option<&str>) -> Result<Self::Job>;
}

impl Asks for Planning {
    type Job = job::Planning;

    fn asks(&self, method: &str, size_decided_by: Option<&str>) -> Result<job::Planning> {
        self.job(method, size_decided_by)
    }
}

impl Asks for Running {
    type Job = job::Running;

    fn asks(&self, method: &str, size_decided_by: Option<&str>) -> Result<job::Running> {
        self.job(method, size_decided_by)
    }
}

impl<Own: MethodOptions, Verb: Args + Asks> With<Own, Verb> {
    fn job(&self) -> Result<Verb::Job> {
        let method = self.own.method();
        self.verb.asks(method.name(), self.own.size_decided_by())
    }
}
