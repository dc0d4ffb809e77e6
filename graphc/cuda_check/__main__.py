"""`python -m graphc.cuda_check`."""

import sys

from graphc.cuda_check.run import main

sys.exit(main())
