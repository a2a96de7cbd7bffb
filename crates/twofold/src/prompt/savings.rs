use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use prompt_cache::proto::SavingsRequest;
use prompt_cache::{AgentHour, PriceTable, Rates, pays_from, replay_pays_from};
use serde_json::json;

use super::wire;
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold prompt savings --model claude-sonnet-4-5 --cached-share 0.6 --replayed-share 0.5
  twofold prompt savings --input-price 3 --output-price 15 --calls 400 --input 80000 --output 4000 --sandbox 0.10

  twofold prompt savings --counted
      what the server has counted since it began

An agent-hour costs calls × (input × (1 − C) × rate + input × C × cache-read rate + output × rate) + sandbox. No server
is asked unless --counted is given.";

/// Settings of `twofold prompt savings`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Model whose prices are taken from the table
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["input_price", "output_price"])]
    model: Option<String>,

    /// Price of a million input tokens, in US dollars
    #[arg(long, value_name = "USD", default_value_t = 3.0)]
    input_price: f64,

    /// Price of a million output tokens, in US dollars
    #[arg(long, value_name = "USD", default_value_t = 15.0)]
    output_price: f64,

    /// Price table to use in place of the one that is built in
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,

    /// Calls an hour
    #[arg(long, value_name = "N", default_value_t = 400.0)]
    calls: f64,

    /// Input tokens a call
    #[arg(long, value_name = "N", default_value_t = 80_000.0)]
    input: f64,

    /// Output tokens a call
    #[arg(long, value_name = "N", default_value_t = 4_000.0)]
    output: f64,

    /// Share of the input that the provider's own cache holds, 0 to 1
    #[arg(long, value_name = "C", default_value_t = 0.60)]
    cached_share: f64,

    /// Share of the calls that recorded results answer, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    replayed_share: f64,

    /// What the agent's machine costs an hour, in US dollars
    #[arg(long, value_name = "USD", default_value_t = 0.10)]
    sandbox: f64,

    /// What the machine costs an hour that the recorded results are on, in US dollars
    #[arg(long, value_name = "USD", default_value_t = 0.10)]
    cache: f64,

    /// Ask the server what it has counted since it began, in place of computing an hour
    #[arg(long)]
    counted: bool,

    /// Namespace within the tenant, with --counted
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks or computes, and prints.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match args.counted {
        true => counted(args).await?,
        false => hour_of_agent(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn counted(args: &Args) -> anyhow::Result<()> {
    let (mut client, _store) = wire::connect(&args.remote).await?;
    let request = SavingsRequest { namespace: args.namespace.clone() };
    let counted = client.savings(request).await.map_err(wire::said)?.into_inner();
    if args.remote.json {
        return wire::print_json(&counted);
    }
    let (misses, usd) = (counted.misses + counted.prefixes, |micros: i64| micros as f64 / 1e6);
    println!("{} hits, {misses} misses, {} without a key", counted.hits, counted.uncacheable);
    println!("{} tokens in and {} out not spent", counted.input_tokens, counted.output_tokens);
    println!(
        "${:.6} not spent, ${:.6} spent on what was recorded",
        usd(counted.saved_microusd),
        usd(counted.recorded_microusd)
    );
    println!("{:.1} s of waiting for models not spent", counted.saved_ms as f64 / 1e3);
    Ok(())
}

fn hour_of_agent(args: &Args) -> anyhow::Result<()> {
    let table = match &args.prices {
        None => PriceTable::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            PriceTable::parse(&text)?
        }
    };
    let rates = rates(args, &table)?;
    let hour = hour(args)?;
    let plain = AgentHour { cached_share: 0.0, ..hour }.cost_usd(&rates);
    let cached = hour.cost_usd(&rates);
    let replayed = hour.cost_with_replay_usd(&rates, args.replayed_share);
    let from =
        [table.multiples.cache_write_5m, table.multiples.cache_write_1h].map(|write| pays_from(table.multiples, write));
    let tokens = args.replayed_share * hour.calls * (hour.input_tokens + hour.output_tokens);
    let pays = replay_pays_from(cached, replayed, args.cache);
    if args.remote.json {
        let answer = json!({
            "price_table": table.version, "hour_usd_without_cache": plain, "hour_usd_with_provider_cache": cached,
            "hour_usd_with_replay": replayed, "saved_usd": plain - replayed, "tokens_not_spent": tokens,
            "replay_pays_from_hour": pays,
            "provider_cache_pays_from_use": { "5m": from[0], "1h": from[1] },
        });
        println!("{answer}");
        return Ok(());
    }
    println!("${plain:.2} an agent-hour without any cache");
    println!("${cached:.2} with {:.0} % of the input in the provider's cache", args.cached_share * 100.0);
    println!(
        "${replayed:.2} with {:.0} % of the calls replayed, {tokens:.0} tokens not spent",
        args.replayed_share * 100.0
    );
    for (name, from) in ["5 minutes", "1 hour"].iter().zip(from) {
        match from {
            Some(from) => println!("a provider's cache of {name} pays from use {from} on"),
            None => println!("a provider's cache of {name} never pays"),
        }
    }
    match pays {
        Some(hours) => println!("recorded results have paid for their machine from hour {hours} on"),
        None => println!("recorded results never pay for their machine"),
    }
    println!("prices: {}", table.version);
    Ok(())
}

fn rates(args: &Args, table: &PriceTable) -> anyhow::Result<Rates> {
    match &args.model {
        Some(model) => table
            .rates(model)
            .with_context(|| format!("the price table {} has no {model}; give --prices", table.version)),
        None => Ok(table.rates_of(args.input_price, args.output_price)),
    }
}

fn hour(args: &Args) -> anyhow::Result<AgentHour> {
    let amounts = [args.cache, args.calls, args.input, args.output, args.sandbox, args.input_price, args.output_price];
    if !amounts.iter().all(|amount| amount.is_finite() && *amount >= 0.0) {
        bail!("amounts are not negative");
    }
    if ![args.cached_share, args.replayed_share].iter().all(|share| (0.0..=1.0).contains(share)) {
        bail!("shares are from 0 to 1");
    }
    Ok(AgentHour {
        calls: args.calls,
        input_tokens: args.input,
        output_tokens: args.output,
        cached_share: args.cached_share,
        sandbox_usd: args.sandbox,
    })
}
