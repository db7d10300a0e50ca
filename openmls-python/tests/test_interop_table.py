"""The table of the README names what is tested with other implementations, and nothing else."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
# What a row is about is shown by one test; these show limits, refusals and details beside the rows.
BESIDE_THE_TABLE = {
    "test_a_client_of_ts_mls_without_what_our_group_requires_is_committed_by_neither",
    "test_a_commit_of_mls_rs_that_adds_another_member_of_mls_rs_is_refused_by_us",
    "test_a_dictionary_that_was_empty_is_filled_by_hand_and_emptied_again",
    "test_a_group_info_of_ts_mls_with_another_key_in_it_is_refused",
    "test_a_key_package_of_mls_rs_is_refused_since_it_is_valid_for_a_year",
    "test_a_key_package_of_ts_mls_says_what_it_should",
    "test_a_proposal_made_by_hand_with_a_wrong_tag_or_signature_is_refused",
    "test_an_update_proposed_by_hand_is_committed_by_us",
    "test_members_refuse_a_commit_whose_maker_has_another_dictionary",
    "test_nothing_that_mls_rs_does_not_know_is_committed_while_it_is_a_member",
    "test_ts_mls_cannot_follow_an_app_data_update_and_stays_where_it_is",
    "test_ts_mls_sees_the_epoch_and_the_hashes_that_we_see",
    "test_what_we_write_is_what_the_draft_says",
}


def test_every_interoperability_test_is_in_the_table_and_every_row_has_its_test() -> None:
    written = {
        node.name
        for module in TESTS.glob("test_interop_*.py")
        if module != Path(__file__)
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    named = set(re.findall(r"`(test_\w+)`", (TESTS.parent / "README.md").read_text()))
    assert named == written - BESIDE_THE_TABLE
    assert written >= BESIDE_THE_TABLE
