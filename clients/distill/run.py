"""From a platform's folder to an installed student: choose the teacher's local layer, teach, compare, install."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clients.distill.compare import Comparison, choose_student, compare
from clients.distill.installed import StudentCard, install_student, remove_students
from clients.distill.student import Student
from clients.distill.teach import teach
from clients.errors import SiteError
from clients.evaluation import Scorer, choose_blend, choose_local
from clients.folder import ClientFolder
from clients.platform import HashableSite, Platform, prepare_platform
from clients.recommender import LocalLayer, Recommender
from clients.serving.load import current_model
from federation.signed import digest
from shared_model.exchange import SharedTensors
from shared_model.model import initial_shared


@dataclass(frozen=True)
class Distilled:
    """What was installed, and how it compares with its teacher."""

    name: str
    card: StudentCard
    layer: LocalLayer
    comparison: Comparison


def distill(folder: ClientFolder, encoders: Sequence[str], neighbours: int) -> Distilled:
    """Teach, compare and install a student.

    The teacher is the platform's current model with its local layer, chosen on validation shoppers. With other
    `encoders` than the model's, it is the local layer on these alone: what was trained together fits its own
    encoders only. Raises SiteError, DataError, EncoderError, FolderError.
    """
    site, model = folder.site(), current_model(folder)
    names = tuple(encoders) or model.encoder_names
    data = HashableSite(site)
    platform = prepare_platform(data, names, model.width, model.history_length).require_shoppers()
    if len(platform.catalogue) < 2:
        raise SiteError(f"{site.items}: a student needs a catalogue of two items at least.")
    shared = model.shared if names == model.encoder_names else None
    tensors = initial_shared(platform.spec) if shared is None else shared
    layer = choose_local(platform)
    if shared is not None:
        layer = choose_blend(platform, shared, layer)
    student, comparison = distilled(platform, tensors, layer, neighbours)
    tables = student.to_bytes()
    card = StudentCard(
        platform=site.name,
        teacher="prior" if shared is None else model.version,
        encoders=list(names),
        neighbours=neighbours,
        decay=student.decay,
        popularity=student.popularity,
        catalogue=platform.catalogue.fingerprint,
        tables=digest(tables),
        item_ids=list(platform.catalogue.item_ids),
    )
    name = install_student(folder.path, card, tables)
    if HashableSite(folder.site()) != data:
        remove_students(folder.path)
        raise SiteError(
            f"{site.name}: the data changed meanwhile, and a shopper may have been erased, so the student was deleted. "
            "Run it again: fedcart client distill."
        )
    return Distilled(name, card, layer, comparison)


def distilled(
    platform: Platform, shared: SharedTensors, layer: LocalLayer, neighbours: int
) -> tuple[Student, Comparison]:
    """Return a student taught with every event, its weights chosen on validation shoppers, and the comparison."""

    def asked(of: Platform) -> Scorer:
        return Recommender(of, shared, replace(layer, popularity=0.0))

    chosen = choose_student(platform, teach(platform, asked, "valid", neighbours))
    taught = teach(platform, asked, None, neighbours)
    student = replace(taught, decay=chosen.decay, popularity=chosen.popularity)
    teacher = Recommender(platform, shared, layer)
    size = teacher_bytes(platform, shared, layer)
    return student, compare(platform, teacher, asked, student, neighbours, size)


def teacher_bytes(platform: Platform, shared: SharedTensors, layer: LocalLayer) -> int:
    """Return the bytes of the tables that the teacher scores with; its encoders' weights come on top."""
    tensors = [platform.table, platform.norms, *shared.values()]
    total = sum(t.numel() * t.element_size() for t in tensors) + 4 * len(platform.catalogue)
    if layer.transitions > 0:
        near = platform.transitions("test")
        total += near.data.nbytes + near.indices.nbytes + near.indptr.nbytes
    return total
