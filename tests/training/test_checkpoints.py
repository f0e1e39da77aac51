from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Catalogue
from recsys.training.checkpoints import restore_weights, weights_of
from recsys.training.full import Fitted


def holds_texts(weights: dict[str, object], model: Recommender) -> bool:
    return any(getattr(value, "shape", None) == model.text_vectors.shape for value in weights.values())


def test_text_vectors_are_copied_only_with_an_encoder_that_is_trained(
    fitted: Fitted, catalogue: Catalogue
) -> None:
    assert holds_texts(weights_of(fitted.model), fitted.model)
    model = fitted.model.with_catalogue(catalogue)
    model.text = None
    before, weights = model.text_vectors.clone(), weights_of(model)
    assert not holds_texts(weights, model)
    restore_weights(model, weights)
    assert (model.text_vectors == before).all()


def test_a_clone_has_its_own_weights_and_its_parents_text_vectors(fitted: Fitted) -> None:
    clone = fitted.model.clone()
    assert clone.text_vectors is fitted.model.text_vectors
    assert clone.items.ids.data_ptr() != fitted.model.items.ids.data_ptr()
