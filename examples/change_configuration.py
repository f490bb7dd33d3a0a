"""Read a company's configuration, change one account, check the result, and write it back.

CODAT_API_KEY=... python examples/change_configuration.py COMPANY_ID SECTION ACCOUNT NAME

For example `sales sales "Online sales"` selects the account of that name for sales. Everything else is written back as
it was read.
"""

import asyncio
import sys
from typing import cast

from codat_commerce_async import CodatCommerce
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.configuration_changes import AccountSection, configuration_problems, select_account


async def main(company_id: str, section: AccountSection, account: str, name: str) -> int:
    """Return the exit status: 0 if the configuration was changed."""
    async with CodatCommerce.from_env() as codat:
        configuration = await codat.advanced_controls.get_configuration(company_id)
        account_id = find_account(configuration, section, account, name)
        if account_id is None:
            print(f"there is no account {name!r} to select for {section}.{account}")
            return 1
        changed = select_account(configuration, section, account, account_id)
        if found := configuration_problems(changed):
            print("\n".join(f"{problem.path}: {problem.message}" for problem in found))
            return 1
        await codat.advanced_controls.set_configuration(company_id, changed)
    return 0


def find_account(configuration: Configuration, section: AccountSection, account: str, name: str) -> str | None:
    """Return the id of the option of that name."""
    commerce = configuration.configuration
    settings = getattr(commerce, section, None)
    slot = settings.accounts.get(account) if settings else None
    options = slot.account_options if slot else ()
    return next((option.id for option in options if option.name == name), None)


if __name__ == "__main__":
    if len(sys.argv) != 5:  # noqa: PLR2004 - the script and its four arguments
        sys.exit(__doc__)
    section = cast("AccountSection", sys.argv[2])  # select_account checks it
    sys.exit(asyncio.run(main(sys.argv[1], section, sys.argv[3], sys.argv[4])))
