//! `wharf system dial-stdio`: the engine's socket over standard input and output, as used through
//! ssh.

use tokio::io::AsyncWriteExt as _;

use crate::error::{CliError, Outcome};
use crate::flags::Parsed;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["system dial-stdio"],
    usage: "",
    about: "Connect stdin and stdout to the engine's socket",
    flags: &[],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, _parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let transport = client
        .endpoint()
        .connect()
        .await
        .map_err(CliError::io(format!("connecting to {}", client.endpoint())))?;
    let (mut from_engine, mut to_engine) = tokio::io::split(transport);
    let (mut stdin, mut stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let sent = async {
        let copied = tokio::io::copy(&mut stdin, &mut to_engine).await;
        // The end of the input is passed on; the engine may still answer.
        let _ = to_engine.shutdown().await;
        match copied {
            Ok(_) => std::future::pending().await,
            Err(error) => CliError::io("writing to the engine")(error),
        }
    };
    let received = async {
        let copied = tokio::io::copy(&mut from_engine, &mut stdout).await;
        copied.map(drop).map_err(CliError::io("reading from the engine"))
    };
    tokio::select! {
        result = received => result?,
        error = sent => return Err(error),
    }
    Ok(0)
}
