-- What wixl has no elements for, or sets otherwise; one statement a line, with installer/windows/pack's variables.
-- Components that depend on properties.
UPDATE `Component` SET `Condition` = 'NOT OPENSPCF OR OPENSPCF = "Wayfarer.Profile"' WHERE `Component` = 'Pcf'
UPDATE `Component` SET `Condition` = 'NOT OPENSVPN OR OPENSVPN = "Wayfarer.Profile"' WHERE `Component` = 'Vpn'
UPDATE `Component` SET `Condition` = 'NOT OPENSMOBILECONFIG OR OPENSMOBILECONFIG = "Wayfarer.Profile"' WHERE `Component` = 'Mobileconfig'
UPDATE `Component` SET `Condition` = 'NOT (AUTOSTART = "0")' WHERE `Component` = 'Autostart'
UPDATE `Component` SET `Condition` = 'AUTOSTART = "0"' WHERE `Component` = 'NoAutostart'
UPDATE `Property` SET `Value` = 'AUTOSTART;PROFILES;WIX_DOWNGRADE_DETECTED;WIX_UPGRADE_DETECTED' WHERE `Property` = 'SecureCustomProperties'
-- A package of the same three numbers replaces what is installed (attribute 512).
DELETE FROM `Upgrade` WHERE `ActionProperty` = 'WIX_UPGRADE_DETECTED'
INSERT INTO `Upgrade` (`UpgradeCode`, `VersionMax`, `Attributes`, `ActionProperty`) VALUES ('{@UPGRADECODE@}', '@NUMBERS@', 513, 'WIX_UPGRADE_DETECTED')
-- The command line for all users' PATH, behind what is there.
CREATE TABLE `Environment` (`Environment` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL LOCALIZABLE, `Value` CHAR(255) LOCALIZABLE, `Component_` CHAR(72) NOT NULL PRIMARY KEY `Environment`)
INSERT INTO `Environment` (`Environment`, `Name`, `Value`, `Component_`) VALUES ('Path', '=-*PATH', '[~];[INSTALLDIR]', 'CommandLine')
-- PROFILES=DIR. They are the administrator's from then on; without the property nothing is copied.
CREATE TABLE `MoveFile` (`FileKey` CHAR(72) NOT NULL, `Component_` CHAR(72) NOT NULL, `SourceName` CHAR(255) LOCALIZABLE, `DestName` CHAR(255) LOCALIZABLE, `SourceFolder` CHAR(72), `DestFolder` CHAR(72) NOT NULL, `Options` SHORT NOT NULL PRIMARY KEY `FileKey`)
INSERT INTO `MoveFile` (`FileKey`, `Component_`, `SourceName`, `SourceFolder`, `DestFolder`, `Options`) VALUES ('Profiles', 'Profiles', '*', 'PROFILES', 'PROFILESDIR', 0)
-- Of the service's own files one is left when it ends.
INSERT INTO `RemoveFile` (`FileKey`, `Component_`, `FileName`, `DirProperty`, `InstallMode`) VALUES ('RemoveLock', 'State', 'network.lock', 'STATEDIR', 2)
-- Windows starts the service again when it crashes: after 2 s, each time (days are forgotten after one).
CREATE TABLE `MsiServiceConfigFailureActions` (`MsiServiceConfigFailureActions` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL LOCALIZABLE, `Event` SHORT NOT NULL, `ResetPeriod` LONG, `RebootMessage` CHAR(255) LOCALIZABLE, `Command` CHAR(255) LOCALIZABLE, `Actions` CHAR(0), `DelayActions` CHAR(0), `Component_` CHAR(72) NOT NULL PRIMARY KEY `MsiServiceConfigFailureActions`)
INSERT INTO `MsiServiceConfigFailureActions` (`MsiServiceConfigFailureActions`, `Name`, `Event`, `ResetPeriod`, `Actions`, `DelayActions`, `Component_`) VALUES ('Restart', 'wayfarerd', 3, 86400, '1[~]1[~]1', '2000[~]2000[~]2000', 'Service')
-- Old versions go, within the transaction, before anything of the new one comes.
UPDATE `InstallExecuteSequence` SET `Sequence` = 1510 WHERE `Action` = 'RemoveExistingProducts'
UPDATE `InstallExecuteSequence` SET `Sequence` = 60 WHERE `Action` = 'KeepAutostart'
INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('RemoveEnvironmentStrings', 3300)
INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('MoveFiles', 'PROFILES', 3800)
INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('WriteEnvironmentStrings', 5200)
INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('MsiConfigureServices', 'VersionMsi >= "5.00"', 5850)
UPDATE `InstallExecuteSequence` SET `Condition` = 'VersionNT' WHERE `Action` = 'StopServices'
-- The window hides in the tray when it is closed, and a file in use is not replaced before the computer's next start.
INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('EndWindow', 98, 'System64Folder', '[System64Folder]taskkill.exe /F /IM wayfarer-gui.exe')
INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('EndWindow', 'Installed OR WIX_UPGRADE_DETECTED', 1350)
-- Wintun's driver stays only where another program has an interface of it (pack leaves this out where there is no wintun).
INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('DeleteDriver', 3153, 'wintun.dll', 'WintunDeleteDriver')
INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('DeleteDriver', 'REMOVE="ALL" AND NOT UPGRADINGPRODUCTCODE', 1950)
