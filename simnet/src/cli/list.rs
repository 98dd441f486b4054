//! `simnet list`: the standing scenarios and their sizes.

use p2pweights_simnet::file::{Form, STANDING};

use super::failure::Failure;
use super::output::{Output, grouped, table};
use super::source::Source;

/// Prints them.
pub fn run(output: Output) -> Result<(), Failure> {
    let (full, short) = (Source::standing(Form::Full)?, Source::standing(Form::Short)?);
    let mut rows = Vec::new();
    for ((full, short), (name, _)) in full.iter().zip(&short).zip(STANDING) {
        let (file, transfers) = (&full.file, [full, short].map(|source| source.file.transfers()));
        if output.is_json() {
            output.json(&serde_json::json!({
                "name": name, "row": file.row, "about": file.about, "seeds": file.seeds,
                "transfers": transfers[0], "short_transfers": transfers[1],
                "targets": file.wanted_figures().iter().map(|wanted| format!("{} {}", wanted.name(), wanted.expectation)).collect::<Vec<_>>(),
            }))?;
            continue;
        }
        rows.push(vec![
            file.row.map_or_else(String::new, |row| row.to_string()),
            name.to_owned(),
            file.seeds.to_string(),
            grouped(transfers[0]),
            grouped(transfers[1]),
            file.about.clone(),
        ]);
    }
    if rows.is_empty() {
        return Ok(());
    }
    table(&[">row", "name", ">seeds", ">transfers", ">short", "about"], &rows).iter().try_for_each(|line| output.line(line))
}
