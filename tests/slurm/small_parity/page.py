"""Its one figure is that of the toy experiment."""

from figures.page import Page
from tests.toy.page import Curves

PAGE = Page(title="Small parity", figures={"curves": Curves()}, figure_of={"L": "curves"})
