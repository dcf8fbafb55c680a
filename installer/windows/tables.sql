-- What wixl has no elements for, or sets otherwise; one statement a line, with installer/windows/pack's variables.
-- A line that begins with "window:" or "wintun:" is left out of a package without it. A table is created unless wixl has done so.
-- Components that depend on properties.
UPDATE `Component` SET `Condition` = 'NOT OPENSPCF OR OPENSPCF = "Wayfarer.Profile"' WHERE `Component` = 'Pcf'
UPDATE `Component` SET `Condition` = 'NOT OPENSVPN OR OPENSVPN = "Wayfarer.Profile"' WHERE `Component` = 'Vpn'
UPDATE `Component` SET `Condition` = 'NOT OPENSMOBILECONFIG OR OPENSMOBILECONFIG = "Wayfarer.Profile"' WHERE `Component` = 'Mobileconfig'
UPDATE `Component` SET `Condition` = 'NOT (AUTOSTART = "0")' WHERE `Component` = 'Autostart'
UPDATE `Component` SET `Condition` = 'AUTOSTART = "0"' WHERE `Component` = 'NoAutostart'
-- What a double click finds out, or is told, and who is given administrators' rights for it needs to know.
UPDATE `Property` SET `Value` = 'AUTOSTART;AUTOSTARTBEFORE;OPENSMOBILECONFIG;OPENSPCF;OPENSVPN;PROFILES;PROFILESFOUND;WINDOWS10;WIX_DOWNGRADE_DETECTED;WIX_UPGRADE_DETECTED' WHERE `Property` = 'SecureCustomProperties'
-- A package of the same three numbers replaces what is installed (attribute 512).
DELETE FROM `Upgrade` WHERE `ActionProperty` = 'WIX_UPGRADE_DETECTED'
INSERT INTO `Upgrade` (`UpgradeCode`, `VersionMax`, `Attributes`, `ActionProperty`) VALUES ('{@UPGRADECODE@}', '@NUMBERS@', 513, 'WIX_UPGRADE_DETECTED')
-- The command line for all users' PATH, behind what is there.
CREATE TABLE `Environment` (`Environment` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL LOCALIZABLE, `Value` CHAR(255) LOCALIZABLE, `Component_` CHAR(72) NOT NULL PRIMARY KEY `Environment`)
INSERT INTO `Environment` (`Environment`, `Name`, `Value`, `Component_`) VALUES ('Path', '=-*PATH', '[~];[INSTALLDIR]', 'CommandLine')
-- PROFILES=DIR, which has to be there. They are the administrator's from then on; without the property nothing is copied.
CREATE TABLE `DrLocator` (`Signature_` CHAR(72) NOT NULL, `Parent` CHAR(72), `Path` CHAR(255), `Depth` SHORT PRIMARY KEY `Signature_`, `Parent`, `Path`)
INSERT INTO `DrLocator` (`Signature_`, `Path`, `Depth`) VALUES ('ProfilesFound', '[PROFILES]', 0)
INSERT INTO `AppSearch` (`Property`, `Signature_`) VALUES ('PROFILESFOUND', 'ProfilesFound')
CREATE TABLE `MoveFile` (`FileKey` CHAR(72) NOT NULL, `Component_` CHAR(72) NOT NULL, `SourceName` CHAR(255) LOCALIZABLE, `DestName` CHAR(255) LOCALIZABLE, `SourceFolder` CHAR(72), `DestFolder` CHAR(72) NOT NULL, `Options` SHORT NOT NULL PRIMARY KEY `FileKey`)
INSERT INTO `MoveFile` (`FileKey`, `Component_`, `SourceName`, `SourceFolder`, `DestFolder`, `Options`) VALUES ('Profiles', 'Profiles', '*', 'PROFILESFOUND', 'PROFILESDIR', 0)
-- There may be secrets beside them: the directory is closed before they come, as the service does it when it starts.
CREATE TABLE `MsiLockPermissionsEx` (`MsiLockPermissionsEx` CHAR(72) NOT NULL, `LockObject` CHAR(72) NOT NULL, `Table` CHAR(32) NOT NULL, `SDDLText` CHAR(0) NOT NULL, `Condition` CHAR(255) PRIMARY KEY `MsiLockPermissionsEx`)
INSERT INTO `MsiLockPermissionsEx` (`MsiLockPermissionsEx`, `LockObject`, `Table`, `SDDLText`) VALUES ('State', 'STATEDIR', 'CreateFolder', 'D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)')
INSERT INTO `MsiLockPermissionsEx` (`MsiLockPermissionsEx`, `LockObject`, `Table`, `SDDLText`) VALUES ('Profiles', 'PROFILESDIR', 'CreateFolder', 'D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)')
-- Of the service's own files one is left when it ends.
INSERT INTO `RemoveFile` (`FileKey`, `Component_`, `FileName`, `DirProperty`, `InstallMode`) VALUES ('RemoveLock', 'State', 'network.lock', 'STATEDIR', 2)
-- A service that cannot be registered is an error (32768 beside the error control). An upgrade leaves it registered: while
-- somebody looks at it, Windows would only mark it for removal, and refuse the new one.
UPDATE `ServiceInstall` SET `ErrorControl` = 32769
UPDATE `InstallExecuteSequence` SET `Condition` = 'VersionNT AND NOT UPGRADINGPRODUCTCODE' WHERE `Action` = 'DeleteServices'
-- Old versions go, within the transaction, before anything of the new one comes.
UPDATE `InstallExecuteSequence` SET `Sequence` = 1510 WHERE `Action` = 'RemoveExistingProducts'
UPDATE `InstallExecuteSequence` SET `Sequence` = 60 WHERE `Action` = 'KeepAutostart'
INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('RemoveEnvironmentStrings', 3300)
INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('MoveFiles', 'PROFILES AND NOT Installed', 3800)
INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('WriteEnvironmentStrings', 5200)
UPDATE `InstallExecuteSequence` SET `Condition` = 'VersionNT' WHERE `Action` = 'StopServices'
-- The window hides in the tray when it is closed, and a file in use is not replaced before the computer's next start. The
-- user's own ends before Windows looks for such; those of other sessions end with the old version, and come back at login.
window: INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('EndWindow', 98, 'System64Folder', '[System64Folder]taskkill.exe /F /IM wayfarer-gui.exe')
window: INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('EndWindow', 'Installed OR WIX_UPGRADE_DETECTED', 1350)
window: INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('EndAllWindows', 3170, 'System64Folder', '[System64Folder]taskkill.exe /F /IM wayfarer-gui.exe')
window: INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('EndAllWindows', 'REMOVE="ALL"', 1940)
-- What the window has written about the start at login goes with it; of other users it stays.
window: INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('ForgetLogin', 1122, 'System64Folder', '[System64Folder]reg.exe delete HKCU\Software\Microsoft\Windows\CurrentVersion\Run /v Wayfarer /f')
window: INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('ForgetLogin', 'REMOVE="ALL" AND NOT UPGRADINGPRODUCTCODE', 1941)
window: INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('ForgetApproval', 1122, 'System64Folder', '[System64Folder]reg.exe delete HKCU\Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run /v Wayfarer /f')
window: INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('ForgetApproval', 'REMOVE="ALL" AND NOT UPGRADINGPRODUCTCODE', 1942)
-- Wintun's driver stays only where another program has an interface of it.
wintun: INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('DeleteDriver', 3153, 'wintun.dll', 'WintunDeleteDriver')
wintun: INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('DeleteDriver', 'REMOVE="ALL" AND NOT UPGRADINGPRODUCTCODE', 1950)
