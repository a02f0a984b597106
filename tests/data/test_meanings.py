import pytest

from pcam_utils.data.meanings import mean_the_same, which_is_tumour


@pytest.mark.parametrize(
    "no, yes",
    [
        ("normal", "malignant"),
        ("Normal", "TUMOR"),
        ("0", "1"),
        ("class0", "class_1"),
        ("IDC-", "IDC+"),
        ("non_idc", "IDC"),
        ("0_normal", "1_tumor"),
        ("no", "yes"),
        ("NonTumor", "Tumor"),
        ("notumour", "tumour"),
        ("tumour-free", "tumour"),
        ("benign_tumour", "malignant_tumour"),
        ("negative", "positive"),
        ("gutartig", "bösartig"),
        ("normale", "Tumeur"),
        ("stroma", "metastasis"),
        ("negative_IDC", "positive_IDC"),
        ("no tumour in the centre", "tumour in the centre"),
        ("healthy", "diseased"),
        ("normal", "abnormal"),
        ("-", "+"),
    ],
)
def test_names_that_say_it_decide_in_any_order(no, yes):
    assert (which_is_tumour([no, yes]), which_is_tumour([yes, no])) == (1, 0)


@pytest.mark.parametrize(
    "names",
    [
        ("a", "b"),
        ("1", "2"),
        ("images", "masks"),
        ("tumour", "masks"),
        ("tumour_1", "tumour_2"),
        ("slide_0", "slide_1"),
        ("0_tumour", "1_normal"),
        ("normal", "not_normal"),
        ("positive_control", "negative_control"),
        ("tumour",),
        ("normal", "tumour", "stroma"),
    ],
)
def test_names_that_do_not_say_it_or_contradict_themselves_decide_nothing(names):
    assert which_is_tumour(names) is which_is_tumour(names[::-1]) is None


@pytest.mark.parametrize(
    "classes, others, same",
    [
        (("normal", "tumour"), ("no tumour in the centre", "tumour in the centre"), True),
        (("benign", "malignant"), ("tumour", "normal"), False),
        (("cat", "dog"), ("Cat", "DOG"), True),
        (("cat", "dog"), ("dog", "cat"), False),
        (("cat", "dog"), ("dog", "mouse"), False),
        (("cat", "dog"), ("left", "right"), None),
        (("cat", "dog"), ("normal", "tumour"), None),
        (("ADI, NORM", "TUM"), ("normal", "tumour"), True),
    ],
)
def test_pairs_are_compared_by_meaning_and_else_by_name(classes, others, same):
    assert mean_the_same(classes, others) is mean_the_same(others, classes) is same
