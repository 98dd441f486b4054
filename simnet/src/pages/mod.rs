//! From finished runs to something that one wants to look at: records in JSON, plots in SVG and PNG, one page in HTML. It is told what
//! happened and decides nothing: whether a run is good enough, its expectations say.
//!
//! [`RunRecord::of`] keeps a run, [`write()`] makes a folder of such records, [`write_plots`] the plots alone. This is the one place in the
//! crate that counts in floating point and writes files. From the ground up: `markup figures record` ← `facts row plot` ← `section` ← `index`.

mod facts;
mod figures;
mod index;
mod markup;
mod plot;
mod record;
mod row;
mod section;

use std::fs;
use std::io;
use std::path::Path;

pub use facts::Facts;
pub use plot::{Kind, Plot, Shape};
pub use record::{Baseline, Expectation, GroupRecord, LinkRecord, MomentRecord, RecordError, RunRecord, SCHEMA};
pub use row::Verdict;

use row::Row;

/// What is written besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// A PNG next to each SVG. Off: SVG is smaller and sharper.
    pub png: bool,
}

/// Writes `index.html` with everything in it, each plot as a file under `plots/`, and each record under `runs/`. What lies there under
/// these names is replaced.
pub fn write(dir: &Path, records: &[RunRecord], options: Options) -> io::Result<()> {
    let runs = dir.join("runs");
    fs::create_dir_all(&runs)?;
    let rows = Row::of(records);
    for row in &rows {
        for run in &row.runs {
            fs::write(runs.join(row.file_of(run)), run.to_json())?;
        }
    }
    write_plots(&dir.join("plots"), records, options)?;
    fs::write(dir.join("index.html"), index::page(&rows))
}

/// Writes the plots of each scenario's worst seed, named by row, scenario and kind: `01-data-centre-completion.svg`. The same runs give
/// the same bytes.
pub fn write_plots(dir: &Path, records: &[RunRecord], options: Options) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for row in Row::of(records) {
        for kind in Kind::ALL {
            let Some(plot) = Plot::of(kind, row.worst(), &row.others(), Shape::Wide) else { continue };
            let file = dir.join(format!("{}-{}.svg", row.slug, kind.name()));
            fs::write(&file, plot.svg())?;
            if options.png {
                fs::write(file.with_extension("png"), plot.png().map_err(io::Error::other)?)?;
            }
        }
    }
    Ok(())
}
