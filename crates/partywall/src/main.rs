//! The binary: `serve`, `quickstart`, and the commands that administer an installation.
//!
//! Exit codes: 0 if it was done, 1 if it failed, 2 if what was asked makes no sense.

mod cli;
mod client;
mod commands;
mod config;
mod folder;
mod installation;
mod logs;
mod quickstart;
mod serve;
mod signals;
mod simulate;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;
use cli::Threads;

/// Frees memory of one thread from another without a global lock, which a server of many tasks
/// does all the time. It takes no pages of 2 MiB, of which an idle process fills a part.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let mut runtime = match cli.threads() {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Many(count) => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            if let Some(count) = count {
                runtime.worker_threads(count.get());
            }
            runtime
        }
    };
    let outcome = runtime
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(Box::pin(cli.run())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::note(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
