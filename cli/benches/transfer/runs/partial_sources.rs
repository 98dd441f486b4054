//! Four sources that hold a quarter each, every one another.

use p2pweights_node::store::Store;
use p2pweights_protocol::geometry::Piece;
use p2pweights_protocol::ids::BlobHash;

use super::{column, mega, rate};
use crate::figures::{CPU_S, MB, MB_PER_S, Report};
use crate::lab::{Lab, Node};
use crate::{Outcome, yardstick};

const SOURCES: u32 = 4;

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let (file, bytes) = (lab.model()?, lab.file_bytes());
    let hash = lab.publish("whole", &file, &[])?.hash;
    let mut sources: Vec<Node> = Vec::new();
    for quarter in 0..SOURCES {
        let name = format!("quarter-{quarter}");
        keep_a_quarter(lab, &hash, &name, quarter)?;
        sources.push(lab.node(&name, &[])?);
    }
    lab.forget("whole")?;
    let addresses: Vec<&str> = sources.iter().map(|source| source.address.as_str()).collect();
    let spent = || sources.iter().map(|source| source.process.cpu_s()).sum::<f64>();
    let rounds = lab.rounds(|| {
        lab.settle()?;
        let copy_s = yardstick::copy(lab, &file)?;
        lab.settle()?;
        let before = spent();
        let fetched = lab.fetch("fetcher", &hash, &addresses)?;
        Ok((copy_s, fetched, spent() - before))
    })?;
    let copies = column(&rounds, |(copy_s, ..)| rate(bytes, *copy_s));
    report.figure("plain TCP copy to a file", MB_PER_S, &copies);
    let rates = column(&rounds, |(_, fetched, _)| rate(bytes, fetched.took_s));
    report.compared("four sources with a quarter each", MB_PER_S, &rates, "plain copy", &copies);
    let cpu = column(&rounds, |(_, fetched, sources_s)| fetched.spent.cpu_s + sources_s);
    report.figure("  processor time, all five", CPU_S, &cpu);
    let peaks: Vec<f64> = sources.iter().map(|source| mega(source.process.peak_bytes())).collect();
    report.figure("  peak memory, sources", MB, &peaks);
    report.figure("  peak memory, fetcher", MB, &column(&rounds, |(_, fetched, _)| mega(fetched.spent.peak_bytes)));
    lab.dismiss(sources)
}

/// Makes a store that holds every fourth piece of a blob, as an interrupted fetch would have left it.
fn keep_a_quarter(lab: &Lab, hash: &str, name: &str, quarter: u32) -> Outcome {
    let hash: BlobHash = hash.parse().map_err(|error| format!("{hash}: {error}"))?;
    let (whole, part) = (Store::open(&lab.path("whole"))?, Store::open(&lab.path(name))?);
    let reader = whole.reader(hash)?;
    let geometry = reader.geometry();
    let writer = part.writer(hash, geometry.size())?;
    let mut encoding = Vec::new();
    for piece in (0..geometry.pieces()).filter(|piece| piece % SOURCES == quarter) {
        let span = geometry.piece_span(Piece(piece)).ok_or("a piece has groups")?;
        encoding.clear();
        reader.encode_span(span, &mut encoding)?;
        writer.receive(span, &mut &encoding[..]).outcome?;
    }
    writer.sync()?;
    drop(writer);
    part.close()?;
    whole.close()?;
    Ok(())
}
